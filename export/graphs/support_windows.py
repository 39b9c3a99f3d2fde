"""The windows of a convolution over support positions, cut to the grid at its edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnet_trt.export.graphs.lowering import Grid, strided


@dataclass(frozen=True)
class Windows:
    """The n windows of one shape; they share a product with one part of the kernel.

    Attributes:
        rows: the kernel's rows that are inside the grid.
        columns: likewise.
        places: int [n], the output position of each window, in 0..M'-1.
        sources: int [n,rows*columns], the input positions of each window, in 0..M-1.
    """

    rows: list[int]
    columns: list[int]
    places: np.ndarray
    sources: np.ndarray


def windows_by_shape(support: Grid, kernel: int, stride: int) -> list[Windows]:
    """All windows of a convolution with padding kernel//2, grouped by the part of the kernel used.

    Windows at an edge are smaller than those inside, so that no zero of the padding is multiplied.
    """
    height, width = support
    outputs = strided(support, stride)[1]
    found = []
    for rows, ys in _along(height, kernel, stride).items():
        for columns, xs in _along(width, kernel, stride).items():
            y, x = np.array(ys), np.array(xs)
            at_y = y[:, None] * stride - kernel // 2 + np.array(rows)  # [ny,rows]
            at_x = x[:, None] * stride - kernel // 2 + np.array(columns)
            sources = at_y[:, None, :, None] * width + at_x[None, :, None, :]
            places = (y[:, None] * outputs + x).ravel()
            found.append(
                Windows(list(rows), list(columns), places, sources.reshape(len(places), -1))
            )
    return found


def centres(support: Grid, stride: int) -> np.ndarray:
    """The positions that the stride keeps; the windows are centred on them."""
    positions = np.arange(support[0] * support[1]).reshape(support)
    return positions[::stride, ::stride].ravel()


def _along(extent: int, kernel: int, stride: int) -> dict[tuple[int, ...], list[int]]:
    """Along one axis: part of the kernel that is inside the grid -> outputs that use it."""
    parts: dict[tuple[int, ...], list[int]] = {}
    for place in range(strided((extent, extent), stride)[0]):
        first = place * stride - kernel // 2
        part = tuple(k for k in range(kernel) if 0 <= first + k < extent)
        parts.setdefault(part, []).append(place)
    return parts
