"""Self-support, which is not in the paper: the query is looked at again by its own first answer.

What a thing looks like in the support may differ from what it looks like in the query; two parts of
one picture look more alike. The first answer, as a probability, is taken for a mask of the query:
the mean feature of what it holds and that of the rest become unit vectors, and the contrast of each
position to the two, times a weight, is added to the foreground logit. (The idea is that of Q. Fan,
W. Pei, Y.-W. Tai, C.-K. Tang, Self-Support Few-Shot Semantic Segmentation, ECCV 2022, arXiv
2207.11549; here it is soft, of one level, and has nothing to be learned but the weight.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hsnet_trt.model.contrast import Grid, contrast_of, direction

LEVEL = 1  # of the pyramid, counted from 0: stride 16


class SelfSupport(nn.Module):
    """The contrast of the query's last layer of level 3 to its own object and background."""

    def __init__(self, weight: float) -> None:
        """`weight`: what the contrast, which lies in [-2,2], is multiplied by."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, logits: Tensor, level3: Tensor, grid: Grid) -> Tensor:
        """What is added to the foreground logits of P pairs, [P,h,w].

        Args:
            logits: the first answer, [P,2,h,w].
            level3: raw features of the queries, [P,L,C,h3*w3].
            grid: (h3, w3).
        """
        last, plane = level3[:, -1], (logits.shape[2], logits.shape[3])
        found = (logits[:, 1] - logits[:, 0]).sigmoid()
        return self.weight * contrast_of(last, direction(last, found, grid), grid, plane)
