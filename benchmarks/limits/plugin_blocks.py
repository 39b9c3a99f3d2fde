"""The blocks of one launch of the correlation kernel: steps, windows, instructions, sectors.

For the current kernel and for the measured one (revision 6c4d0ab). The loops' instructions are
counted in the listing of nvdisasm (nvcc 13.0, sm_90); how often each loop runs follows from the
sizes and the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.trt_plugins.occupancy import ARCHITECTURES, level_plan
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

MULTIPROCESSORS = ARCHITECTURES[90].count
PROLOGUE = 300  # instructions of a warp before its loop, and from the loop to the first window
TOGETHER = 8  # rows of tiles whose blocks are consecutive


@dataclass(frozen=True)
class Form:
    """One form of the kernel, as nvcc 13.0 compiles it for sm_90.

    Args:
        tile: query positions of a block.
        width: columns of a block.
        warps: warps of a block.
        resident: resident blocks per multiprocessor.
        channels: channels of one step of the loop.
        loop: instructions of a warp in one step.
        copies, reads: a block's asynchronous copies, and its other wavefronts, in one step.
        window: columns of results that are staged at a time.
        earlier: whether it is the form of revision 6c4d0ab, which stored single elements, tested
            every position for the pruned output, and ordered its blocks by tile.
    """

    tile: int
    width: int
    warps: int
    resident: int
    channels: int
    loop: int
    copies: int
    reads: int
    window: int
    earlier: bool = False


EARLIER_FORMS = {
    "large_f16": Form(128, 128, 8, 2, 32, 150, 32, 384, 128, earlier=True),
    "small_f16": Form(64, 64, 4, 4, 32, 110, 16, 128, 64, earlier=True),
    "large_f32": Form(128, 128, 8, 1, 16, 730, 32, 384, 64, earlier=True),
    "small_f32": Form(64, 64, 4, 3, 16, 533, 16, 128, 64, earlier=True),
}
FORMS = {
    "large_f16": Form(128, 128, 4, 2, 32, 229, 32, 256, 128),
    "small_f16": Form(64, 64, 4, 4, 32, 115, 16, 128, 64),
    "split_f16": Form(32, 32, 4, 4, 128, 163, 32, 128, 32),
    "large_f32": Form(128, 64, 4, 2, 16, 391, 24, 192, 64),
    "small_f32": Form(64, 64, 4, 3, 16, 249, 16, 128, 64),
    "split_f32": Form(32, 32, 4, 3, 64, 269, 32, 128, 32),
}


@dataclass(frozen=True)
class Parts:
    """One block: steps of the loop, windows, and what a warp issues and stores besides.

    Args:
        sectors: sectors of 32 bytes that the block's stores touch.
        form: its own form, if its tile is not that of the launch.
    """

    steps: int
    windows: int
    instructions: float
    sectors: float
    form: Form | None = None


@dataclass(frozen=True)
class Case:
    """One launch.

    Args:
        blocks: in launch order.
        shifted: whether every other row of the inputs starts within a sector.
        bytes: of inputs and outputs, each counted once.
    """

    form: Form
    blocks: tuple[Parts, ...]
    shifted: bool
    bytes: int


def square_mask(sizes: CorrelationSizes, area: float) -> NDArray[np.bool_]:
    """A centred rectangle with about this share of the support: [hs * ws]."""
    keep = np.zeros((sizes.support_h, sizes.support_w), np.bool_)
    height, width = (
        max(1, round(area**0.5 * side)) if area > 0 else 0
        for side in (sizes.support_h, sizes.support_w)
    )
    top, left = (sizes.support_h - height) // 2, (sizes.support_w - width) // 2
    keep[top : top + height, left : left + width] = True
    return keep.reshape(-1)


def case(level: str, area: float | None, element_size: int, form: Form) -> Case:
    """One launch at one level of ResNet-50 at 400 x 400, with a square mask or none (`area`)."""
    plan = level_plan(int(level[-1]), element_size)
    sizes = plan.sizes
    kept = np.ones(sizes.support_positions, bool) if area is None else square_mask(sizes, area)
    columns = np.flatnonzero(kept)
    if form.earlier:
        blocks = tuple(_earlier_blocks(plan, form, columns)) * plan.layers
    else:
        grid = _tiles(plan, form, sizes.support_positions) * plan.layers
        grid += 3 * _cut(plan, form, grid)
        form = _finer(plan, form, len(columns), grid)
        blocks = tuple(_blocks(plan, form, columns, grid))
    outputs = sizes.query_positions * (sizes.support_positions + sizes.pruned_h * sizes.pruned_w)
    inputs = plan.channels * (sizes.query_positions + len(columns))
    row = -(-sizes.query_positions * element_size // 16) * 16
    shifted = form.earlier and row % 32 != 0
    return Case(form, blocks, shifted, plan.layers * element_size * (outputs + inputs))


def _tiles(plan: Plan, form: Form, columns: int) -> int:
    """Number of tiles of one layer."""
    return -(-plan.sizes.query_positions // form.tile) * -(-columns // form.width)


def _finer(plan: Plan, form: Form, columns: int, grid: int) -> Form:
    """The form used on the device: smaller FP16 tiles if few blocks have columns."""
    finer = replace(FORMS["small_f16"], resident=form.resident)
    few = _tiles(plan, form, columns) * plan.layers < MULTIPROCESSORS
    fits = _tiles(plan, finer, columns) * plan.layers < grid
    return finer if form == FORMS["large_f16"] and few and fits else form


def _cut(plan: Plan, form: Form, tiles: int) -> int:
    """How many of the tiles are cut into four."""
    return plan.cut_tiles(tiles, MULTIPROCESSORS) if form == FORMS["large_f16"] else 0


def _blocks(plan: Plan, form: Form, columns: NDArray[np.int64], grid: int) -> Iterator[Parts]:
    """Blocks with columns, of all layers, then the blocks that share the zeros outside of them."""
    sizes, size = plan.sizes, plan.element_size
    nq, ns = sizes.query_positions, sizes.support_positions
    places = list(_places(plan, form, columns)) * plan.layers
    cut = _cut(plan, form, len(places))
    cut = cut if len(places) + 3 * cut <= grid else 0
    idle = grid - len(places) - 3 * cut
    outside = ns - (int(columns[-1]) + 1 - int(columns[0]))
    for tile, row in places[: len(places) - cut]:
        yield _busy(plan, form, columns, tile, row, alone=idle == 0)
    small = FORMS["small_f16"]
    for tile, row in places[len(places) - cut :]:
        for quarter in range(4):
            y, x = 2 * row + quarter // 2, 2 * tile + quarter % 2
            if y * small.tile < nq and x * small.width < len(columns):
                found = _busy(plan, small, columns, x, y, alone=idle == 0)
                yield replace(found, form=small)
            else:
                yield Parts(0, 0, PROLOGUE, 0)
    if idle:
        rows = nq * plan.layers / idle
        pruned = outside * sizes.pruned_h * sizes.pruned_w / ns
        pieces = rows * (outside + pruned) * size / 16 / 32 / form.warps
        sectors = rows * (outside + pruned) * size / 32
        part = Parts(0, 0, rows / form.warps * 45 + pieces * 4 + PROLOGUE, sectors)
        for _ in range(idle):
            yield part


def _places(plan: Plan, form: Form, columns: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The (column, row) tiles of one layer that have columns, in the order of the blocks."""
    tiles = -(-len(columns) // form.width)
    rows_of = -(-plan.sizes.query_positions // form.tile)
    for group in range(0, rows_of, TOGETHER):
        height = min(TOGETHER, rows_of - group)
        for index in range(tiles * height):
            yield index // height, group + index % height


def _busy(
    plan: Plan, form: Form, columns: NDArray[np.int64], tile: int, row: int, *, alone: bool
) -> Parts:
    """One block with columns; if `alone`, it also writes the zeros at both ends."""
    sizes, size = plan.sizes, plan.element_size
    rows = min(form.tile, sizes.query_positions - row * form.tile)
    mine = columns[tile * form.width : (tile + 1) * form.width]
    following = columns[(tile + 1) * form.width :]
    first = int(mine[0]) if tile or not alone else 0
    end = sizes.support_positions if alone else int(mine[-1]) + 1
    last = int(following[0]) if len(following) else end
    density = sizes.pruned_h * sizes.pruned_w / sizes.support_positions
    windows, instructions, sectors = 0, float(PROLOGUE), 0.0
    for start in range(first, last, form.window):
        width = min(form.window, last - start)
        zero = not ((mine >= start) & (mine < start + width)).any()
        found = _window(form, rows, width, size, kept=width * density, zero=zero)
        windows, instructions, sectors = windows + 1, instructions + found[0], sectors + found[1]
    return Parts(-(-plan.channels // form.channels), windows, instructions, sectors)


def _earlier_blocks(plan: Plan, form: Form, columns: NDArray[np.int64]) -> Iterator[Parts]:
    """Blocks of one layer, with and without columns, in the order of their tiles."""
    sizes, size = plan.sizes, plan.element_size
    nq, ns = sizes.query_positions, sizes.support_positions
    rows_of, tiles = -(-nq // form.tile), -(-ns // form.width)
    busy = -(-len(columns) // form.width)
    outside = ns - (int(columns[-1]) + 1 - int(columns[0]))
    for group in range(0, rows_of, TOGETHER):
        height = min(TOGETHER, rows_of - group)
        for index in range(tiles * height):
            tile, row = index // height, group + index % height
            if tile < busy:
                yield _busy(plan, form, columns, tile, row, alone=tiles == busy)
                continue
            share = outside / (tiles - busy)
            rows = min(form.tile, nq - row * form.tile)
            pruned = share * sizes.pruned_h * sizes.pruned_w / ns
            found = _window(form, rows, share, size, kept=pruned, zero=True)
            yield Parts(0, int(-(-share // form.window)), *found)


def _window(
    form: Form, rows: int, width: float, size: int, *, kept: float, zero: bool
) -> tuple[float, float]:
    """Instructions of a warp, and sectors of the block, to write ``width`` columns."""
    threads = 32 * form.warps
    sectors = rows * (width + kept) * size / 32
    if form.earlier:
        staged = 0.0 if zero else form.tile * form.window / threads * 4.5
        pieces = rows * (width / 4 + 1) / threads * (24 if zero else 40)
        return staged + pieces + width / form.warps * (75 if zero else 90), 4 * sectors
    staged = 0.0 if zero else form.tile * form.window / threads * 4.5
    pieces = rows * width * size / 16 / threads * (14 if zero else 58)
    ends = rows * 32 / size / threads * 30
    return staged + pieces + ends + kept / form.warps * 75 + 120, sectors
