"""The center-pivot 4D convolution (paper section 4.2) on [P,C,hq,wq,hs,ws] tensors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CenterPivotConv4d(nn.Module):
    """A 4D convolution with a kernel that is zero unless its query or support half is centred.

    It is the sum of a 2D convolution over the query positions (`conv1`, evaluated only at the
    support positions that the stride keeps) and one over the support positions (`conv2`, strided).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel, 1, padding=kernel // 2)
        self.conv2 = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[P,C,hq,wq,hs,ws] -> [P,O,hq,wq,hs',ws'] with hs' = (hs + stride - 1) // stride."""
        pairs, _, hq, wq, _, _ = x.shape
        pruned = x[..., :: self.stride, :: self.stride]
        hs, ws = pruned.shape[-2:]
        over_query = self.conv1(pruned.permute(0, 4, 5, 1, 2, 3).flatten(0, 2))
        over_query = over_query.view(pairs, hs, ws, -1, hq, wq).permute(0, 3, 4, 5, 1, 2)
        windows = x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        if windows.shape[2:] == (1, 1):  # every other kernel weight would multiply padding
            half = self.conv2.weight.shape[-1] // 2
            middle = self.conv2.weight[:, :, half : half + 1, half : half + 1]
            over_support = F.conv2d(windows, middle, self.conv2.bias)
        else:
            over_support = self.conv2(windows)
        over_support = over_support.view(pairs, hq, wq, -1, hs, ws).permute(0, 3, 1, 2, 4, 5)
        return over_query + over_support
