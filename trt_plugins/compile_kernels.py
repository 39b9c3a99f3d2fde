"""Compile the correlation kernels with nvcc, for all GPUs it knows, into one portable file.

``python -m hsnet_trt.trt_plugins.compile_kernels`` writes the file beside the kernels' source,
where the Python plugin looks for it; ``--table`` prints each kernel's resource usage instead.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BuildError
from hsnet_trt.trt_plugins import nvcc

KERNELS = Path(__file__).resolve().parent / "kernels"
SOURCE = KERNELS / "correlation.cu"
FATBIN = KERNELS / "correlation.fatbin"


@dataclass(frozen=True)
class KernelFigures:
    """The resources of one kernel on one architecture, as reported by ``ptxas -v``."""

    architecture: int  # 87 for 8.7
    kernel: str  # without the prefix hsnet_
    registers: int  # per thread
    shared_bytes: int  # per block
    spilled_bytes: int  # spill stores and loads per thread


def compiled_kernels() -> bytes | None:
    """Return the kernels, compiled for all GPUs; None if that is not possible: ``nvcc.compiled``.

    Raises:
        BuildError: nvcc failed.
    """
    return nvcc.compiled(SOURCE, FATBIN)


def kernel_figures(architecture: int, folder: Path) -> list[KernelFigures]:
    """Compile for one architecture, into ``folder``, and parse the output of ``ptxas -v``.

    Raises:
        BuildError: there is no nvcc, it failed, or its output was not understood.
    """
    output = folder / f"correlation_{architecture}.cubin"
    options = ("-cubin", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v")
    text = nvcc.run_nvcc(nvcc.require_nvcc(), *options, "-o", str(output), str(SOURCE))
    found = []
    for block in text.split("Compiling entry function")[1:]:
        name = re.search(r"'(\w+)'", block)
        registers = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", block)
        if name is None or registers is None or spilled is None:
            raise BuildError(
                "what ptxas says about the kernels was not understood",
                found=block.strip(),
                fix="report it with the version of the CUDA toolkit",
            )
        found.append(
            KernelFigures(
                architecture,
                name[1].removeprefix("hsnet_"),
                int(registers[1]),
                int(shared[1]) if shared else 0,
                int(spilled[1]) + int(spilled[2]),
            )
        )
    return sorted(found, key=lambda figures: figures.kernel)


def figures_table(figures: Sequence[KernelFigures]) -> str:
    """Return a Markdown table: a kernel per row, registers (and spills) per architecture."""
    columns = sorted({item.architecture for item in figures})
    by_place = {(item.kernel, item.architecture): item for item in figures}
    lines = [
        f"| kernel | shared bytes | {' | '.join(f'sm_{a}' for a in columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for kernel in sorted({item.kernel for item in figures}):
        row = [by_place[kernel, architecture] for architecture in columns]
        cells = [
            f"{item.registers}" + (f" ({item.spilled_bytes} B spilled)" * bool(item.spilled_bytes))
            for item in row
        ]
        shared = "/".join(str(size) for size in sorted({item.shared_bytes for item in row}))
        lines.append(f"| {kernel} | {shared} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Compile the correlation kernels.")
    parser.add_argument("--out", type=Path, default=FATBIN, help="file to write")
    parser.add_argument("--arch", type=int, action="append", help="only for this one, e.g. 87")
    parser.add_argument("--table", action="store_true", help="print a table of ptxas -v instead")
    arguments = parser.parse_args()
    if arguments.table:
        chosen = arguments.arch or nvcc.architectures(nvcc.require_nvcc())
        with tempfile.TemporaryDirectory() as folder:
            rows = [row for arch in chosen for row in kernel_figures(arch, Path(folder))]
        print(figures_table(rows))
        return
    path = nvcc.compile_fatbin(SOURCE, arguments.out, arguments.arch)
    print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    _main()
