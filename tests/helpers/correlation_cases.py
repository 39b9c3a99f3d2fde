"""Inputs of the op, as HSNet gives them: raw query features, masked and normalised support."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.trt_plugins.sizes import CorrelationSizes


def blob(sizes: CorrelationSizes, area: float) -> NDArray[np.bool_]:
    """A rectangle of about this share of the support positions; at least one of them."""
    keep = np.zeros((sizes.support_h, sizes.support_w), np.bool_)
    side = area**0.5
    height = max(1, round(side * sizes.support_h))
    width = max(1, round(side * sizes.support_w))
    top, left = (sizes.support_h - height) // 2, (sizes.support_w - width) // 2
    keep[top : top + height, left : left + width] = area > 0
    return keep.reshape(-1)


def features(
    seed: int,
    shape: tuple[int, int, int, int],
    sizes: CorrelationSizes,
    dtype: Any,
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Query [B, L, C, hq*wq] and support [S, L, C, hs*ws] for shape (B, S, L, C)."""
    batch, supports, layers, channels = shape
    random = np.random.default_rng(seed)
    query = random.normal(0.2, 2.0, (batch, layers, channels, sizes.query_positions))
    support = random.normal(0.2, 2.0, (supports, layers, channels, sizes.support_positions))
    if mask is not None:
        support = np.where(mask, support, 0.0)
    support /= np.sqrt((support**2).sum(axis=2, keepdims=True)) + 1e-5
    return query.astype(dtype), support.astype(dtype)
