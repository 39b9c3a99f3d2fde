"""Hypercorrelation: the cosine similarity of all query positions with all support positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5  # added to the norm, not under the square root


def normalize(features: Tensor) -> Tensor:
    """Divide features [...,C,n] by their L2 norm over C, plus `EPSILON`.

    At zero vectors (masked support positions) `vector_norm` has a zero gradient, where the square
    root of a sum of squares gives NaN.
    """
    norm = torch.linalg.vector_norm(features, dim=-2, keepdim=True)
    return features / (norm + EPSILON)


def mask_features(features: Tensor, mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Multiply features [S,L,C,h*w] by the mask [S,H,W], resized bilinearly (align_corners)."""
    small = F.interpolate(mask.unsqueeze(1), grid, mode="bilinear", align_corners=True)
    return features * small.flatten(1)[:, None, None, :]


def correlate(query: Tensor, support: Tensor) -> Tensor:
    """The clamped cosine similarity at one pyramid level.

    Args:
        query: raw features [P,L,C,hq*wq] of P pairs.
        support: masked and normalised features [P,L,C,hs*ws].

    Returns:
        [P,L,hq*wq,hs*ws] in [0, 1] (paper section 4.1).
    """
    return torch.matmul(normalize(query).transpose(-1, -2), support).clamp(min=0)
