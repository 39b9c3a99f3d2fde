"""Load and start the kernels of `kernels/frames.cu`.

`python -m hsnet_trt.runtime.frame_kernels` compiles them with nvcc into the file that is read here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError
from hsnet_trt.runtime.cuda import Cuda

SOURCE = Path(__file__).resolve().parent / "kernels" / "frames.cu"
FATBIN = SOURCE.with_suffix(".fatbin")

# Compute capabilities with code of their own; later ones compile the PTX of the newest. Thor is
# 101 to CUDA 12 and 110 to CUDA 13.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 101, 110, 120)

# The structs of the kernels' arguments, as C lays them out.
PREPARE = struct.Struct("@6P" + "10i" + "6f")
VOTE = struct.Struct("@9P" + "q" + "6i")
SETTLE = struct.Struct("@5P" + "2i")
_BLOCK = (32, 8)


class FrameKernels:
    """The kernels in the current context.

    Args:
        cuda: whose context is current.
        image: the compiled file's content.

    Raises:
        BackendError: it holds no code for this GPU.
    """

    def __init__(self, cuda: Cuda, image: bytes) -> None:
        self._cuda = cuda
        sizes = {
            "hsnet_prepare_f32": PREPARE.size,
            "hsnet_prepare_f16": PREPARE.size,
            "hsnet_vote_f32": VOTE.size,
            "hsnet_vote_f16": VOTE.size,
            "hsnet_settle": SETTLE.size,
        }
        self._kernels = cuda.load_kernels(image, tuple(sizes), sizes)

    def prepare(self, dtype: Any, width: int, height: int, argument: bytes, stream: Any) -> None:
        """Start `hsnet_prepare` for a network input of that size; `argument` is a `PREPARE`."""
        self._start("hsnet_prepare" + _ending(dtype), width, height, argument, stream)

    def vote(self, dtype: Any, width: int, height: int, argument: bytes, stream: Any) -> None:
        """Start `hsnet_vote` for a photograph of that size; `argument` is a `VOTE`."""
        self._start("hsnet_vote" + _ending(dtype), width, height, argument, stream)

    def settle(self, count: int, argument: bytes, stream: Any) -> None:
        """Start `hsnet_settle` for so many pixels; `argument` is a `SETTLE`."""
        grid = (-(-count // 256), 1)
        self._cuda.launch(self._kernels, "hsnet_settle", grid, (256, 1), argument, stream)

    def close(self) -> None:
        """Unload them; none may still run."""
        self._cuda.unload_kernels(self._kernels)

    def _start(self, name: str, width: int, height: int, argument: bytes, stream: Any) -> None:
        grid = (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]))
        self._cuda.launch(self._kernels, name, grid, _BLOCK, argument, stream)


def _ending(dtype: Any) -> str:
    return {2: "_f16", 4: "_f32"}[dtype.itemsize]


def find_nvcc() -> Path | None:
    """Return nvcc: on the path, under CUDA_HOME, or where CUDA installs itself; None if nowhere."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("nvcc"), *(Path(home) / "bin" / "nvcc" for home in homes if home)]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def compile_fatbin(target: Path = FATBIN, only: int | None = None) -> Path:
    """Compile the kernels for every GPU that nvcc knows and, as PTX, for newer ones.

    The file appears whole or not at all.

    Args:
        target: the file to write.
        only: one compute capability, 87 for 8.7, to be quick.

    Raises:
        BuildError: there is no nvcc, or it failed.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError(
            "the kernels cannot be compiled here: there is no nvcc",
            expected="nvcc on the path, in $CUDA_HOME/bin or in /usr/local/cuda/bin",
            fix=f"install the CUDA toolkit, or copy {target.name} from a machine that has it",
        )
    known = {int(n) for n in re.findall(r"sm_(\d+)\b", _run([str(nvcc), "--list-gpu-code"]))}
    chosen = [only] if only else [a for a in ARCHITECTURES if a in known]
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
    parser = argparse.ArgumentParser(
        description="Compile the kernels before and after the network."
    )
    parser.add_argument("--out", type=Path, default=FATBIN, help="file to write")
    parser.add_argument("--arch", type=int, help="only for this one, e.g. 87")
    arguments = parser.parse_args()
    path = compile_fatbin(arguments.out, arguments.arch)
    print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    _main()
