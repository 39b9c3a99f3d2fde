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


def in_columns(support: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Whole supports [S, L, C, n] as the op takes them: columns, positions, counts.

    What lies behind a support's columns is arbitrary, since nobody may look at it.
    """
    row = -(-support.shape[3] // 16) * 16
    columns = np.full((*support.shape[:3], row), 7, support.dtype)
    positions = np.full((len(support), row), -5, np.int32)
    counts = np.zeros(len(support), np.int32)
    for index, whole in enumerate(support):
        kept = np.flatnonzero((whole != 0).any(axis=(0, 1)))
        counts[index] = len(kept)
        positions[index, : len(kept)] = kept
        columns[index, :, :, : len(kept)] = whole[:, :, kept]
    return columns, positions, counts


def in_rows(query: NDArray[Any]) -> NDArray[Any]:
    """Features [..., n] in rows of a multiple of 16, arbitrary behind their positions."""
    pads = [(0, 0)] * (query.ndim - 1) + [(0, -query.shape[-1] % 16)]
    return np.pad(query, pads, constant_values=7)


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
