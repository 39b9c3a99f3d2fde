"""Self-support (not in the paper): the query's first answer serves as a second support mask.

An object may look different in support and query, but two parts of it in one picture look alike.
The foreground probabilities of the first answer serve as a soft mask of the query itself. The
contrast to that mask's object and background is computed as for a support, weighted, and added to
the foreground logit. (The idea is that of Q. Fan, W. Pei, Y.-W. Tai, C.-K. Tang, Self-Support
Few-Shot Semantic Segmentation, ECCV 2022, arXiv 2207.11549; here the mask is soft, and only the
weight is learned.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hsnet_trt.model.contrast import Grid, directions, mean_contrast


class SelfSupport(nn.Module):
    """The query's mean contrast, at levels 3 and 4, to its own object and background."""

    def __init__(self, weight: float) -> None:
        """`weight`: factor of the mean contrast, which lies in [-2,2]."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, logits: Tensor, query: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        """The term to add to the foreground logits of P pairs, [P,h,w].

        The margins of a letterboxed query count as background: nothing tells them from the rest.

        Args:
            logits: of the first answer, [P,2,h,w].
            query: raw features of levels 2, 3, 4, [P,L,C,h*w] each.
            grids: (h, w) of levels 2, 3, 4.
        """
        found = (logits[:, 1] - logits[:, 0]).sigmoid()
        plane = (logits.shape[2], logits.shape[3])
        return self.weight * mean_contrast(query, directions(query, found, grids), grids, plane)
