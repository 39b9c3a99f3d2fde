"""Load and start the kernels of `kernels/frames.cu`.

`python -m hsnet_trt.runtime.frame_kernels` compiles them with nvcc into the file that is read here.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path
from typing import Any

from hsnet_trt.runtime.cuda import Cuda
from hsnet_trt.trt_plugins.nvcc import compile_fatbin

SOURCE = Path(__file__).resolve().parent / "kernels" / "frames.cu"
FATBIN = SOURCE.with_suffix(".fatbin")

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


def _main() -> None:
    parser = argparse.ArgumentParser(
        description="Compile the kernels before and after the network."
    )
    parser.add_argument("--out", type=Path, default=FATBIN, help="file to write")
    parser.add_argument("--arch", type=int, action="append", help="only for this one, e.g. 87")
    arguments = parser.parse_args()
    path = compile_fatbin(SOURCE, arguments.out, arguments.arch)
    print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    _main()
