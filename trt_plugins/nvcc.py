"""nvcc: where it is, what it compiles for, and kernels' source to one file that travels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hsnet_trt.errors import BuildError

# Compute capabilities with code of their own; others run that of their generation (8.8 runs 8.7's,
# 10.3 runs 10.0's, 12.1 runs 12.0's), and later ones compile the PTX of the newest. Thor is 101
# to CUDA 12 and 110 to CUDA 13.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 101, 110, 120)

_FATBIN_MAGIC = b"\x50\xed\x55\xba"


def find_nvcc() -> Path | None:
    """Return nvcc: on the path, in $CUDA_HOME, else where CUDA installs itself; None if nowhere."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home, "bin")))
    return Path(found) if found else None


def require_nvcc() -> Path:
    """`find_nvcc`, for those who cannot do without.

    Raises:
        BuildError: there is none.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError(
            "the kernels cannot be compiled here: there is no nvcc",
            expected="nvcc on the path, or in the folder bin of $CUDA_HOME (/usr/local/cuda)",
            fix="install the CUDA toolkit, or copy the compiled file (.fatbin) from a machine "
            "that has it",
        )
    return nvcc


def run_nvcc(nvcc: Path, *arguments: str) -> str:
    """What nvcc prints.

    Raises:
        BuildError: it failed.
    """
    done = subprocess.run([str(nvcc), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"{nvcc.name} failed",
            found=(done.stderr or done.stdout).strip()[-2000:],
            fix="check that the CUDA toolkit fits the C++ compiler of this machine",
        )
    return done.stdout + done.stderr


def architectures(nvcc: Path) -> list[int]:
    """Return those of ``ARCHITECTURES`` that this nvcc compiles for, ascending."""
    listed = run_nvcc(nvcc, "--list-gpu-code")
    known = {int(number) for number in re.findall(r"sm_(\d+)\b", listed)}
    return [architecture for architecture in ARCHITECTURES if architecture in known]


def compile_fatbin(source: Path, target: Path, targets: Sequence[int] | None = None) -> Path:
    """Compile kernels for ``targets`` (all that nvcc knows) and, as PTX, for newer GPUs.

    The file appears whole or not at all.

    Args:
        source: the ``.cu``.
        target: the file to write.
        targets: compute capabilities, 87 for 8.7, ascending.

    Raises:
        BuildError: there is no nvcc, or it failed.
    """
    nvcc = require_nvcc()
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
    options = ("-fatbin", "-std=c++17", "-O3", "--threads", "0")
    try:
        run_nvcc(nvcc, *options, *codes, "-o", str(partial), str(source))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def compiled(source: Path, kept: Path) -> bytes | None:
    """Kernels, compiled for all GPUs; None where they are not and there is no nvcc.

    Those that came with the package, or were compiled before, are taken; where there is nvcc they
    are compiled when they are not there, or older than the files beside their source (a minute).

    Raises:
        BuildError: nvcc failed.
    """
    if find_nvcc() is None or is_fresh(source, kept):
        return kept.read_bytes() if kept.is_file() else None
    if os.access(kept.parent, os.W_OK):
        return compile_fatbin(source, kept).read_bytes()
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
        return compile_fatbin(source, Path(folder, kept.name)).read_bytes()


def sources(source: Path) -> list[Path]:
    """The source of kernels and the headers beside it, in the order of their names."""
    return sorted(p for p in source.parent.iterdir() if p.suffix in (".cu", ".cuh", ".h"))


def is_fresh(source: Path, kept: Path) -> bool:
    """Whether compiled kernels are there, and no older than their source and its headers."""
    newest = max(path.stat().st_mtime for path in sources(source))
    return kept.is_file() and kept.stat().st_mtime >= newest


def is_fatbin(content: bytes) -> bool:
    """Whether a file's content is a fat binary, as nvcc writes it."""
    return content.startswith(_FATBIN_MAGIC)
