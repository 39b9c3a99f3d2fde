"""nvcc: finding it, its architectures, and compiling kernels into one portable file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hsnet_trt.errors import BuildError
from hsnet_trt.files import replacing

# Compute capabilities that get their own code. Others run that of their generation (8.8 runs 8.7's,
# 10.3 runs 10.0's, 12.1 runs 12.0's), and later ones compile the newest one's PTX. Thor is 101 in
# CUDA 12 and 110 in CUDA 13.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 101, 110, 120)

_FATBIN_MAGIC = b"\x50\xed\x55\xba"


def find_nvcc() -> Path | None:
    """Return the path of nvcc: from PATH, $CUDA_HOME, $CUDA_PATH or /usr/local/cuda; else None."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home, "bin")))
    return Path(found) if found else None


def require_nvcc() -> Path:
    """`find_nvcc`, but an error if there is none.

    Raises:
        BuildError: there is no nvcc.
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
    """Run nvcc and return its output: stdout, then stderr.

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
    """Compile kernels for ``targets`` and, as PTX, for newer GPUs.

    The file is written atomically.

    Args:
        source: the ``.cu`` file.
        target: the file to write.
        targets: compute capabilities, 87 for 8.7, ascending; None for all ``architectures``.

    Returns:
        ``target``.

    Raises:
        BuildError: there is no nvcc, it knows none of the architectures, or it failed.
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
    options = ("-fatbin", "-std=c++17", "-O3", "--threads", "0")
    with replacing(target) as scratch:
        run_nvcc(nvcc, *options, *codes, "-o", str(scratch), str(source))
    return target


def compiled(source: Path, kept: Path) -> bytes | None:
    """The content of the kernels compiled for all GPUs; None if they are missing without nvcc.

    Existing kernels, from the package or compiled before, are used. With nvcc, they are compiled
    (a minute) if they are missing, or older than a source file; they are kept at ``kept`` if its
    folder is writable.

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
    """The kernels' source and the headers beside it, sorted by name."""
    return sorted(p for p in source.parent.iterdir() if p.suffix in (".cu", ".cuh", ".h"))


def is_fresh(source: Path, kept: Path) -> bool:
    """Whether compiled kernels exist and are not older than their source and its headers."""
    newest = max(path.stat().st_mtime for path in sources(source))
    return kept.is_file() and kept.stat().st_mtime >= newest


def is_fatbin(content: bytes) -> bool:
    """Whether a file's content is a fat binary of nvcc."""
    return content.startswith(_FATBIN_MAGIC)
