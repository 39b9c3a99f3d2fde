"""Background contrast (not in the paper): is a query position closer to object or to background?

HSNet multiplies the support's background by zero and never sees it. Here the mean features of the
support's object and of its background become unit vectors. The cosine of a query position to the
first minus its cosine to the second, times a learned weight, is added to the foreground logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.model.correlation import normalize
from hsnet_trt.model.learner import upsample

Grid = tuple[int, int]
LEVELS = (1, 2)  # indices into the levels 2, 3, 4: strides 16 and 32


class BackgroundContrast(nn.Module):
    """The weighted mean of the contrasts at the last layers of levels 3 and 4.

    The dot product is linear, so only the difference of the two unit vectors is kept for each shot
    and level.
    """

    def __init__(self, weight: float) -> None:
        """`weight`: factor of the mean contrast, which lies in [-2,2]."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def support(
        self, features: Sequence[Tensor], mask: Tensor, grids: Sequence[Grid]
    ) -> tuple[Tensor, Tensor]:
        """The vectors of S supports: see `directions`."""
        return directions(features, mask, grids)

    def forward(
        self, query: Sequence[Tensor], vectors: Sequence[Tensor], grids: Sequence[Grid], size: Grid
    ) -> Tensor:
        """The weighted contrast of P pairs at the decoder's resolution, [P,*size].

        The arguments are those of `mean_contrast`.
        """
        return self.weight * mean_contrast(query, vectors, grids, size)


def directions(
    features: Sequence[Tensor], mask: Tensor, grids: Sequence[Grid]
) -> tuple[Tensor, Tensor]:
    """Unit vector of the object minus that of the background, for levels 3 and 4, [S,1,C,1] each.

    The means are weighted by the mask, resized bilinearly (align_corners). If the object or the
    background covers less than one position of a level in total, the vector is multiplied by that
    coverage, so a mask that covers everything or nothing has no contrast.

    Args:
        features: raw features of levels 2, 3, 4, [S,L,C,h*w] each.
        mask: [S,H,W], from 0 (background) to 1 (object), also as a probability; -1 outside the
            photograph (the margins of a letterbox), which counts as neither.
        grids: (h, w) of levels 2, 3, 4.
    """
    level3, level4 = (_direction(features[level][:, -1], mask, grids[level]) for level in LEVELS)
    return level3, level4


def mean_contrast(
    query: Sequence[Tensor], vectors: Sequence[Tensor], grids: Sequence[Grid], size: Grid
) -> Tensor:
    """Cosine to the object minus cosine to the background, mean of two levels, [P,*size] in [-2,2].

    Args:
        query: raw features of levels 2, 3, 4, [P,L,C,h*w] each.
        vectors: the result of `directions`, [P,1,C,1] each.
        grids: (h, w) of levels 2, 3, 4.
        size: (height, width) of the result.
    """
    maps = []
    for level, vector in zip(LEVELS, vectors, strict=True):
        contrast = (normalize(query[level][:, -1]) * vector.flatten(1, 2)).sum(dim=1)
        maps.append(upsample(contrast.unflatten(1, grids[level]).unsqueeze(1), size)[:, 0])
    return (maps[0] + maps[1]) / 2


def raised(logits: Tensor, contrast: Tensor) -> Tensor:
    """Logits [P,2,h,w] with `contrast` [P,h,w] added to the foreground."""
    return torch.stack([logits[:, 0], logits[:, 1] + contrast], dim=1)


def _direction(last: Tensor, mask: Tensor, grid: Grid) -> Tensor:
    """The vector of one level, [S,1,C,1], from features [S,C,h*w]."""
    vectors, shares = [], []
    for side in (mask.clamp(min=0), 1 - mask.abs()):
        small = F.interpolate(side.unsqueeze(1), grid, mode="bilinear", align_corners=True)
        weight = small.flatten(2)  # [S,1,h*w]
        vectors.append(normalize((last * weight).sum(dim=-1, keepdim=True)))
        shares.append(weight.sum(dim=-1, keepdim=True).clamp(max=1))
    return ((vectors[0] - vectors[1]) * shares[0] * shares[1]).unsqueeze(1)
