"""The op in NumPy, in float64: the reference for all other implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.trt_plugins.sizes import EPSILON, CorrelationSizes


def hyper_correlation(
    query: NDArray[Any], support: NDArray[Any], sizes: CorrelationSizes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute ``relu(cos(query, support))`` for all pairs (HSNet, section 4.1, equation 1).

    Args:
        query: raw features [B, L, C, query_h * query_w or more]; any float type.
        support: features [S, L, C, support_h * support_w or more], masked and L2-normalised.
            Elements behind the positions are ignored, as in the query.
        sizes: the op's attributes.

    Returns:
        ``full`` [B * S * query_h * query_w, L, support_h, support_w] and
        ``pruned`` [B * S * pruned_h * pruned_w, L, query_h, query_w], float64, in [0,1] for
        normalised support. NaN in a column makes that column's correlation NaN.
    """
    q = query[..., : sizes.query_positions].astype(np.float64)
    s = support[..., : sizes.support_positions].astype(np.float64)
    q = q / (np.sqrt((q * q).sum(axis=2, keepdims=True)) + EPSILON)
    cosine = q.transpose(0, 1, 3, 2)[:, None] @ s[None]  # [B, S, L, query, support]
    correlation = np.maximum(cosine, 0.0).transpose(0, 1, 3, 2, 4)
    pairs, layers = query.shape[0] * support.shape[0], query.shape[1]
    grid = correlation.reshape(
        pairs, sizes.query_positions, layers, sizes.support_h, sizes.support_w
    )
    kept = grid[..., :: sizes.stride, :: sizes.stride]
    pruned = kept.transpose(0, 3, 4, 2, 1)
    return (
        correlation.reshape(-1, layers, sizes.support_h, sizes.support_w),
        np.ascontiguousarray(pruned).reshape(-1, layers, sizes.query_h, sizes.query_w),
    )
