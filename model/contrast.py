"""The background contrast, which is not in the paper: is a position nearer to object or background?

HSNet multiplies the support's background by zero and never sees it. Here the mean feature of the
support's object and that of its background become unit vectors; the cosine of a query position to
the first less that to the second, times a weight that is learned with the rest, is added to the
foreground logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnet_trt.model.correlation import normalize
from hsnet_trt.model.learner import upsample

Grid = tuple[int, int]
LEVELS = (1, 2)  # of the pyramid, counted from 0: strides 16 and 32


class BackgroundContrast(nn.Module):
    """The contrast of the last layers of levels 3 and 4, whose mean is weighted.

    As the cosine is linear in the unit vector, one vector is kept for each shot and level, the
    difference of the two.
    """

    def __init__(self, weight: float) -> None:
        """`weight`: what the mean contrast, which lies in [-2,2], is multiplied by."""
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

        Arguments are those of `mean_contrast`.
        """
        return self.weight * mean_contrast(query, vectors, grids, size)


def directions(
    features: Sequence[Tensor], mask: Tensor, grids: Sequence[Grid]
) -> tuple[Tensor, Tensor]:
    """Unit vectors of objects less those of their backgrounds, [S,1,C,1] of levels 3 and 4.

    Means are weighted by the mask, resized bilinearly (align_corners). Where all that the object,
    or the background, has at a level is less than one position, the vector is multiplied by that
    rest: a mask that covers everything or nothing there has no contrast.

    Args:
        features: raw features of levels 2, 3, 4, [S,L,C,h*w] each.
        mask: [S,H,W], 1 the object, 0 the background, or how probable the object is; -1 outside of
            the photograph (the margins of a letterbox).
        grids: (h, w) of levels 2, 3, 4.
    """
    level3, level4 = (_direction(features[level][:, -1], mask, grids[level]) for level in LEVELS)
    return level3, level4


def mean_contrast(
    query: Sequence[Tensor], vectors: Sequence[Tensor], grids: Sequence[Grid], size: Grid
) -> Tensor:
    """How much nearer to object than to background each position is, in [-2,2], [P,*size].

    Args:
        query: raw features of levels 2, 3, 4, [P,L,C,h*w] each.
        vectors: what `directions` gave, [P,1,C,1] each.
        grids: (h, w) of levels 2, 3, 4.
        size: of the result.
    """
    maps = []
    for level, vector in zip(LEVELS, vectors, strict=True):
        contrast = (normalize(query[level][:, -1]) * vector.flatten(1, 2)).sum(dim=1)
        maps.append(upsample(contrast.unflatten(1, grids[level]).unsqueeze(1), size)[:, 0])
    return (maps[0] + maps[1]) / 2


def raised(logits: Tensor, contrast: Tensor) -> Tensor:
    """Logits [P,2,h,w] whose foreground is raised by [P,h,w]."""
    return torch.stack([logits[:, 0], logits[:, 1] + contrast], dim=1)


def _direction(last: Tensor, mask: Tensor, grid: Grid) -> Tensor:
    """Of one level, [S,1,C,1], of [S,C,h*w]."""
    vectors, shares = [], []
    for side in (mask.clamp(min=0), 1 - mask.abs()):
        small = F.interpolate(side.unsqueeze(1), grid, mode="bilinear", align_corners=True)
        weight = small.flatten(2)  # [S,1,h*w]
        vectors.append(normalize((last * weight).sum(dim=-1, keepdim=True)))
        shares.append(weight.sum(dim=-1, keepdim=True).clamp(max=1))
    return ((vectors[0] - vectors[1]) * shares[0] * shares[1]).unsqueeze(1)
