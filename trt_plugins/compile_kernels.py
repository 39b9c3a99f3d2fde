"""Compile the CUDA kernels with nvcc, for all GPUs it knows, into one file that travels.

``python -m hsnet_trt.trt_plugins.compile_kernels`` writes the file beside the kernels' source,
where the Python plugin looks for it; ``--table`` prints what every kernel needs of a GPU instead.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BuildError

KERNELS = Path(__file__).resolve().parent / "kernels"
SOURCE = KERNELS / "correlation.cu"
FATBIN = KERNELS / "correlation.fatbin"
_FATBIN_MAGIC = b"\x50\xed\x55\xba"

# Compute capabilities with code of their own; others run that of their generation (8.8 runs 8.7's,
# 10.3 runs 10.0's, 12.1 runs 12.0's), and later ones compile the PTX of the newest. Thor is 101
# to CUDA 12 and 110 to CUDA 13.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 101, 110, 120)


@dataclass(frozen=True)
class KernelFigures:
    """What one kernel needs on one architecture, as ``ptxas -v`` says."""

    architecture: int
    kernel: str
    registers: int
    shared_bytes: int
    spilled_bytes: int


def find_nvcc() -> Path | None:
    """Return nvcc: on the path, under CUDA_HOME, or where CUDA installs itself; None if nowhere."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("nvcc"), *(Path(home) / "bin" / "nvcc" for home in homes if home)]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def is_kernels(content: bytes) -> bool:
    """Whether a file's content is a fat binary, as nvcc writes it."""
    return content.startswith(_FATBIN_MAGIC)


def compiled_kernels() -> bytes | None:
    """Return the kernels, compiled for all GPUs; None where they are not and there is no nvcc.

    Those that came with the package, or were compiled before, are taken; where there is nvcc they
    are compiled when they are not there, or older than their source (a minute or two).

    Raises:
        BuildError: nvcc failed.
    """
    there = FATBIN.is_file()
    if find_nvcc() is None:
        return FATBIN.read_bytes() if there else None
    newest = max(path.stat().st_mtime for path in KERNELS.glob("*.[ch]*"))
    if there and FATBIN.stat().st_mtime >= newest:
        return FATBIN.read_bytes()
    if os.access(KERNELS, os.W_OK):
        return compile_fatbin().read_bytes()
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
        return compile_fatbin(Path(folder, FATBIN.name)).read_bytes()


def architectures(nvcc: Path) -> list[int]:
    """Return those of ``ARCHITECTURES`` that this nvcc compiles for, ascending."""
    listed = _run([str(nvcc), "--list-gpu-code"])
    known = {int(number) for number in re.findall(r"sm_(\d+)\b", listed)}
    return [architecture for architecture in ARCHITECTURES if architecture in known]


def compile_fatbin(target: Path = FATBIN, targets: Sequence[int] | None = None) -> Path:
    """Compile the kernels for ``targets`` (all that nvcc knows) and, as PTX, for newer GPUs.

    The file appears whole or not at all.

    Raises:
        BuildError: there is no nvcc, or it failed.
    """
    nvcc = _require_nvcc()
    chosen = list(targets) if targets is not None else architectures(nvcc)
    if not chosen:
        raise BuildError(
            "the kernels were not compiled: no GPU architecture to compile for",
            expected=f"an nvcc that knows one of {', '.join(map(str, ARCHITECTURES))}",
            found=str(nvcc),
            fix="install a newer CUDA toolkit",
        )
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in chosen]
    codes.append(f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}")
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = [str(nvcc), "-fatbin", "-std=c++17", "-O3", "--threads", "0", *codes]
    try:
        _run([*command, "-o", str(partial), str(SOURCE)])
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def kernel_figures(architecture: int, folder: Path) -> list[KernelFigures]:
    """Compile for one architecture, into ``folder``, and read what ``ptxas -v`` says.

    Raises:
        BuildError: there is no nvcc, or it failed.
    """
    command = [str(_require_nvcc()), "-cubin", "-std=c++17", "-O3", f"-arch=sm_{architecture}"]
    output = folder / f"correlation_{architecture}.cubin"
    text = _run([*command, "-Xptxas", "-v", "-o", str(output), str(SOURCE)])
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


def _require_nvcc() -> Path:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError(
            "the kernels cannot be compiled here: there is no nvcc",
            expected="nvcc on the path, in $CUDA_HOME/bin or in /usr/local/cuda/bin",
            fix="install the CUDA toolkit, or copy correlation.fatbin from a machine that has it",
        )
    return nvcc


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"{Path(command[0]).name} failed",
            found=(done.stderr or done.stdout).strip()[-2000:],
            fix="check that the CUDA toolkit fits the C++ compiler of this machine",
        )
    return done.stdout + done.stderr


def _main() -> None:
    parser = argparse.ArgumentParser(description="Compile the correlation kernels.")
    parser.add_argument("--out", type=Path, default=FATBIN, help="file to write")
    parser.add_argument("--arch", type=int, action="append", help="only for this one, e.g. 87")
    parser.add_argument("--table", action="store_true", help="print a table of ptxas -v instead")
    arguments = parser.parse_args()
    if arguments.table:
        chosen = arguments.arch or architectures(_require_nvcc())
        with tempfile.TemporaryDirectory() as folder:
            rows = [row for arch in chosen for row in kernel_figures(arch, Path(folder))]
        print(figures_table(rows))
        return
    path = compile_fatbin(arguments.out, arguments.arch)
    print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    _main()
