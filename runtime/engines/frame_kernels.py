"""Find, load and start the kernels of `kernels/frames.cu`.

They travel compiled, in the bundle, where `build-engine` found nvcc; `python -m
hsnet_trt.runtime.engines.frame_kernels` compiles them into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import struct
import tempfile
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BuildError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.engines.kernel_cache import cache_folder, keep_content, read_kept
from hsnet_trt.trt_plugins.nvcc import compile_fatbin, compiled, find_nvcc, is_fresh

_log = logging.getLogger("hsnet_trt.tensorrt")

SOURCE = Path(__file__).resolve().parent / "kernels" / "frames.cu"
FATBIN = SOURCE.with_suffix(".fatbin")

# The structs of the kernels' arguments, as C lays them out.
PREPARE = struct.Struct("@6P" + "10i" + "6f")
VOTE = struct.Struct("@9P" + "q" + "6i")
SETTLE = struct.Struct("@5P" + "2i")
_BLOCK = (32, 8)


def bundled_name() -> str:
    """Where they lie in a bundle, compiled: named by their source.

    Arguments are packed here as that source lays them out, so no other's kernels may be started.
    """
    return f"plugins/frames-{_source_hash()}.fatbin"


def compiled_kernels() -> bytes | None:
    """Return them compiled for all GPUs; None where they are not, and there is no nvcc.

    Raises:
        BuildError: nvcc failed.
    """
    return compiled(SOURCE, FATBIN)


def find_kernels(bundle: Bundle, capability: str) -> bytes | None:
    """Return them compiled: the bundle's, else the package's, else nvcc's, made now and kept.

    Args:
        bundle: whose manifest must vouch for them.
        capability: of the GPU, "8.7"; nvcc compiles for it alone.

    Returns:
        The compiled file's content; None, and the log says so, where there is none.

    Raises:
        BundleError: the bundle's were altered; no others are taken in their place.
    """
    if bundled_name() in bundle.manifest.files:
        return bundle.read(bundled_name())
    nvcc = find_nvcc()
    if FATBIN.is_file() and (nvcc is None or is_fresh(SOURCE, FATBIN)):
        return FATBIN.read_bytes()
    if nvcc is not None:
        try:
            return _compiled_here(capability.replace(".", ""))
        except (BuildError, OSError) as error:
            _log.warning("the kernels for frames could not be compiled: %s", error)
    _log.warning(
        "photographs are resized and masks drawn by the CPU, which is slower: the kernels for that "
        "are neither in the bundle nor in the package, and nvcc %s. Build the engines again "
        "where there is nvcc, or run "
        "`python -m hsnet_trt.runtime.engines.frame_kernels` here once there is",
        "is not here" if nvcc is None else "failed",
    )
    return None


def _compiled_here(architecture: str) -> bytes:
    kept = cache_folder() / f"frames-{_source_hash()}-sm{architecture}.fatbin"
    content = read_kept(kept)
    if content is None:
        _log.info("compiling the kernels for frames, once; some seconds")
        with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
            target = Path(folder, kept.name)
            content = compile_fatbin(SOURCE, target, [int(architecture)]).read_bytes()
        keep_content(content, kept)
    return content


def _source_hash() -> str:
    text = SOURCE.read_bytes().replace(b"\r\n", b"\n")  # as git may write it on Windows
    return hashlib.sha256(text).hexdigest()[:16]


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
