"""Occupancy of the correlation kernels, from their resource usage and the grid of a call.

``python -m hsnet_trt.trt_plugins.occupancy`` prints a table; it needs nvcc but no GPU. It predicts
no times: it gives the blocks resident on a multiprocessor, and the waves of a launch.
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

REGISTERS = 65_536  # per multiprocessor
REGISTER_UNIT = 256  # allocation unit of a warp's registers
SHARED_UNIT = 128  # allocation unit of shared memory, in bytes
SHARED_RESERVED = 1024  # bytes per block that the system reserves

# ResNet-50 at 400 x 400, one query and one support: layers, channels, side, stride.
LEVELS = {2: (4, 512, 50, 4), 3: (6, 1024, 25, 4), 4: (3, 2048, 13, 2)}


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one architecture (CUDA C++ Programming Guide, "Compute Capabilities").

    Args:
        warps, blocks: the most that are resident at once.
        shared_bytes: shared memory for all blocks, including 1 KiB reserved per block.
        card, count: a typical card, and its number of multiprocessors.
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
    """Occupancy of a multiprocessor by a kernel, and of a card by one launch of it.

    Args:
        blocks: blocks resident on a multiprocessor at once.
        warps_share: their warps as a share of the multiprocessor's most (0 to 1).
        waves: blocks of the launch over those resident on the whole card.
    """

    blocks: int
    warps_share: float
    waves: float


def occupancy(
    figures: KernelFigures, launch: Launch, chip: Multiprocessor, multiprocessors: int
) -> Occupancy:
    """Return the occupancy of a launch on a card with so many multiprocessors of this kind."""
    warps = -(-launch.threads // 32)
    of_warp = -(-figures.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    # Each of the four schedulers owns a quarter of the registers.
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
    """Return a Markdown table of the occupancy of each level's kernels on each card."""
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
