"""How full the correlation kernels keep a GPU, from what ptxas says and the grid of a call.

``python -m hsnet_trt.trt_plugins.occupancy`` prints a table; it needs nvcc and no GPU. It predicts
no time: it says how many blocks live on a multiprocessor, and how often the card is filled.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.trt_plugins.compile_kernels import KernelFigures, kernel_figures
from hsnet_trt.trt_plugins.plan import Launch, Plan
from hsnet_trt.trt_plugins.sizes import CorrelationSizes, row_length

REGISTERS = 65_536  # of a multiprocessor
REGISTER_UNIT = 256  # a warp's registers are given out in these
SHARED_UNIT = 128  # bytes
SHARED_RESERVED = 1024  # bytes of every block, for the system

# ResNet-50 at 400 x 400, one query and one support: layers, channels, side, stride.
LEVELS = {2: (4, 512, 50, 4), 3: (6, 1024, 25, 4), 4: (3, 2048, 13, 2)}


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one architecture (CUDA C++ Programming Guide, "Compute Capabilities").

    Args:
        warps, blocks: how many live at once, at most.
        shared_bytes: shared memory that blocks can have, with 1 KiB reserved of each.
        card, count: a usual card, and its multiprocessors.
    """

    warps: int
    blocks: int
    shared_bytes: int
    card: str
    count: int


ARCHITECTURES = {
    80: Multiprocessor(64, 32, 164 * 1024, "A100", 108),
    86: Multiprocessor(48, 16, 100 * 1024, "RTX 3090", 82),
    87: Multiprocessor(48, 16, 164 * 1024, "AGX Orin 64 GB", 16),
    89: Multiprocessor(48, 24, 100 * 1024, "RTX 4090", 128),
    90: Multiprocessor(64, 32, 228 * 1024, "H100 SXM", 132),
    120: Multiprocessor(48, 24, 100 * 1024, "RTX 5090", 170),
}


@dataclass(frozen=True)
class Occupancy:
    """How one kernel fills a multiprocessor, and one launch of it a card.

    Args:
        blocks: blocks that live on a multiprocessor at once.
        warps_share: their warps, of those that the multiprocessor can hold (0 to 1).
        waves: blocks of the launch, in fillings of the whole card.
    """

    blocks: int
    warps_share: float
    waves: float


def occupancy(
    figures: KernelFigures, launch: Launch, chip: Multiprocessor, multiprocessors: int
) -> Occupancy:
    """Return how a launch fills a card of this chip with so many multiprocessors."""
    warps = -(-launch.threads // 32)
    of_warp = -(-figures.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    # Each of the four schedulers has a quarter of the registers.
    by_registers = REGISTERS // 4 // of_warp * 4 // warps
    shared = -(-figures.shared_bytes // SHARED_UNIT) * SHARED_UNIT + SHARED_RESERVED
    blocks = min(chip.blocks, chip.warps // warps, by_registers, chip.shared_bytes // shared)
    x, y, z = launch.grid
    return Occupancy(blocks, blocks * warps / chip.warps, x * y * z / (blocks * multiprocessors))


def level_plan(level: int, element_size: int) -> Plan:
    """Return the plan of one level of ResNet-50 at 400 x 400, for one query and one support."""
    layers, channels, side, stride = LEVELS[level]
    sizes = CorrelationSizes(side, side, side, side, stride)
    row = row_length(side * side)
    return Plan(sizes, 1, 1, layers, channels, element_size, row, row)


def table(architectures: Sequence[int], figures: Sequence[KernelFigures]) -> str:
    """Return Markdown: every kernel of every level, and how it fills each architecture's card."""
    by_place = {(item.kernel, item.architecture): item for item in figures}
    heads = [f"sm_{a}, {ARCHITECTURES[a].card}" for a in architectures]
    lines = [f"| level | kernel | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for element_size in (2, 4):
        for level in LEVELS:
            plan = level_plan(level, element_size)
            cells: dict[str, dict[int, str]] = {}
            for architecture in architectures:
                chip = ARCHITECTURES[architecture]
                launch = plan.launch(chip.count)
                name = launch.kernel.removeprefix("hsnet_")
                full = occupancy(by_place[name, architecture], launch, chip, chip.count)
                text = f"{full.blocks}, {full.warps_share:.0%}, {full.waves:.2f}"
                cells.setdefault(name, {})[architecture] = text
            for name, row in cells.items():
                texts = (row.get(architecture, "-") for architecture in architectures)
                lines.append(f"| {level} | {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(description="How the correlation kernels fill a GPU.")
    parser.add_argument("--arch", type=int, action="append", choices=sorted(ARCHITECTURES))
    chosen = sorted(parser.parse_args().arch or ARCHITECTURES)
    with tempfile.TemporaryDirectory() as folder:
        figures = [item for arch in chosen for item in kernel_figures(arch, Path(folder))]
    print("blocks on a multiprocessor, their share of its warps, waves of the launch\n")
    print(table(chosen, figures))


if __name__ == "__main__":
    _main()
