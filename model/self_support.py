"""Self-support, which is not in the paper: the query is looked at again by its own first answer.

What a thing looks like in the support may differ from what it looks like in the query; two parts of
one picture look more alike. The first answer, as a probability, is taken for a mask of the query,
and the contrast to what it holds and to the rest, as the background contrast has it of a support,
times a weight, is added to the foreground logit. (The idea is that of Q. Fan, W. Pei, Y.-W. Tai,
C.-K. Tang, Self-Support Few-Shot Semantic Segmentation, ECCV 2022, arXiv 2207.11549; here it is
soft, and has nothing to be learned but the weight.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hsnet_trt.model.contrast import Grid, directions, mean_contrast


class SelfSupport(nn.Module):
    """The mean contrast of the query, at levels 3 and 4, to its own object and background."""

    def __init__(self, weight: float) -> None:
        """`weight`: what the mean contrast, which lies in [-2,2], is multiplied by."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, logits: Tensor, query: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
        """What is added to the foreground logits of P pairs, [P,h,w].

        Args:
            logits: the first answer, [P,2,h,w].
            query: raw features of levels 2, 3, 4, [P,L,C,h*w] each.
            grids: (h, w) of levels 2, 3, 4.
        """
        found = (logits[:, 1] - logits[:, 0]).sigmoid()
        plane = (logits.shape[2], logits.shape[3])
        return self.weight * mean_contrast(query, directions(query, found, grids), grids, plane)
