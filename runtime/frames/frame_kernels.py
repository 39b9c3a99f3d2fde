"""Find, load and launch the frame kernels: the CUDA code in `kernels/`.

They resize and normalise a frame before the network, and turn logits into masks after it. Where
`build-engine` finds nvcc it puts them, compiled, into the bundle; `python -m
hsnet_trt.runtime.frames.frame_kernels` compiles them into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BuildError
from hsnet_trt.files import cache_folder
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.driver import Cuda, has
from hsnet_trt.runtime.device.kernel_cache import keep_content, read_kept
from hsnet_trt.runtime.pictures.colour_model import BINS
from hsnet_trt.trt_plugins.nvcc import compile_fatbin, compiled, find_nvcc, is_fresh, sources
from hsnet_trt.trt_plugins.nvrtc import INSTALL, compile_cubin

_log = logging.getLogger("hsnet_trt.tensorrt")

SOURCE = Path(__file__).resolve().parent / "kernels" / "frames.cu"
FATBIN = SOURCE.with_suffix(".fatbin")

# The structs of the kernels' arguments, field by field as in `kernels/`, in C's own layout.
PREPARE = struct.Struct("@6P" + "10i" + "6f")
VOTE = struct.Struct("@9P" + "q" + "6i")
SETTLE = struct.Struct("@5P" + "2i")
LIKENESS = struct.Struct("@3P" + "3i4x")
GUIDE = struct.Struct("@3P" + "4i" + "3f" + "0P")
COLOUR = struct.Struct("@5P" + "q" + "3i" + "7f" + "0P")
FIT = struct.Struct("@3P" + "4i" + "f" + "0P")
REFINE = struct.Struct("@3P" + "4i" + "f" + "0P")  # "0P": as long as C makes it
TILE = 8  # vectors that a thread of `hsnet_likeness` compares at once, as in `likeness.cuh`
_BLOCK = (32, 8)
MOST_ROWS = 65535 * _BLOCK[1]  # of a frame: CUDA's limit of a grid's height


def bundled_name() -> str:
    """Path of the compiled kernels in a bundle; the name holds a hash of their source.

    Kernels of another source may lay out their arguments differently, so they are not found.
    """
    return f"plugins/frames-{_source_hash()}.fatbin"


def compiled_kernels() -> bytes | None:
    """The kernels compiled for all GPUs; None if they are not compiled and nvcc is missing.

    Raises:
        BuildError: nvcc failed.
    """
    return compiled(SOURCE, FATBIN)


def find_kernels(bundle: Bundle, capability: str) -> bytes | None:
    """The compiled kernels: from the bundle, else the package, else compiled now and cached.

    They are compiled by nvcc, or without it by NVRTC through cuda-bindings.

    Args:
        bundle: its manifest must list the file and its hash.
        capability: compute capability of the GPU, such as "8.7"; they are compiled only for it.

    Returns:
        The compiled file's content; None, after a warning in the log, if there is none.

    Raises:
        BundleError: the file in the bundle was altered; no other is used instead.
    """
    if bundled_name() in bundle.manifest.files:
        return bundle.read(bundled_name())
    nvcc = find_nvcc()
    if FATBIN.is_file() and (nvcc is None or is_fresh(SOURCE, FATBIN)):
        return FATBIN.read_bytes()
    if nvcc is not None or has("cuda.bindings"):
        try:
            return _compiled_here(capability.replace(".", ""), by_nvcc=nvcc is not None)
        except (BuildError, OSError) as error:
            _log.warning("the kernels for frames could not be compiled: %s", error)
    _log.warning(
        "photographs are resized and masks drawn by the CPU, which is slower: the kernels for that "
        "are neither in the bundle nor in the package, and %s. Build the engines again where there "
        "is nvcc, or run `python -m hsnet_trt.runtime.frames.frame_kernels` here once there is, "
        "or let NVRTC compile them: %s",
        "nvcc is not here" if nvcc is None else "nvcc failed",
        INSTALL,
    )
    return None


def _compiled_here(architecture: str, *, by_nvcc: bool) -> bytes:
    ending = "fatbin" if by_nvcc else "cubin"
    kept = cache_folder() / f"frames-{_source_hash()}-sm{architecture}.{ending}"
    content = read_kept(kept)
    if content is None:
        _log.info("compiling the kernels for frames, once; some seconds")
        if by_nvcc:
            with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:
                target = Path(folder, kept.name)
                content = compile_fatbin(SOURCE, target, [int(architecture)]).read_bytes()
        else:
            content = compile_cubin(SOURCE, int(architecture))
        keep_content(content, kept)
    return content


def _source_hash() -> str:
    digest = hashlib.sha256()
    for path in sources(SOURCE):
        text = path.read_bytes().replace(b"\r\n", b"\n")  # as git may write it on Windows
        digest.update(b"%s %d\n%s" % (path.name.encode(), len(text), text))
    return digest.hexdigest()[:16]


class FrameKernels:
    """The kernels, loaded into the current CUDA context.

    Args:
        cuda: the driver; its context must be current.
        image: content of the compiled file.

    Raises:
        BackendError: the file holds no code for this GPU.
    """

    def __init__(self, cuda: Cuda, image: bytes) -> None:
        self._cuda = cuda
        sizes = {
            "hsnet_prepare_f32": PREPARE.size,
            "hsnet_prepare_f16": PREPARE.size,
            "hsnet_vote_f32": VOTE.size,
            "hsnet_vote_f16": VOTE.size,
            "hsnet_settle": SETTLE.size,
            "hsnet_likeness_f32": LIKENESS.size,
            "hsnet_likeness_f16": LIKENESS.size,
            "hsnet_guide_f32": GUIDE.size,
            "hsnet_guide_f16": GUIDE.size,
            "hsnet_count_f32": COLOUR.size,
            "hsnet_count_f16": COLOUR.size,
            "hsnet_weigh_f32": COLOUR.size,
            "hsnet_weigh_f16": COLOUR.size,
            "hsnet_fit": FIT.size,
            "hsnet_refine": REFINE.size,
        }
        self._kernels = cuda.load_kernels(image, tuple(sizes), sizes)

    def prepare(self, dtype: Any, width: int, height: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_prepare`: resize and normalise a frame.

        Args:
            dtype: of the network's input, float16 or float32.
            width: of the network's input, in pixels.
            height: of the network's input, in pixels.
            argument: a packed `PREPARE`.
            stream: where the launch is queued.
        """
        self._start("hsnet_prepare" + _ending(dtype), width, height, argument, stream)

    def vote(self, dtype: Any, width: int, height: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_vote`: upsample logits, count the shots' votes, average their scores.

        Args:
            dtype: of the logits, float16 or float32.
            width: of the frame, in pixels.
            height: of the frame, in pixels.
            argument: a packed `VOTE`.
            stream: where the launch is queued.
        """
        self._start("hsnet_vote" + _ending(dtype), width, height, argument, stream)

    def settle(self, count: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_settle`: from votes to masks and labels.

        Args:
            count: pixels of the frame, height times width.
            argument: a packed `SETTLE`.
            stream: where the launch is queued.
        """
        grid = (-(-count // 256), 1)
        self._cuda.launch(self._kernels, "hsnet_settle", grid, (256, 1), argument, stream)

    def likeness(
        self, dtype: Any, positions: int, vectors: int, argument: bytes, stream: Any
    ) -> None:
        """Launch `hsnet_likeness`: the best match of each object's vector in a frame's features.

        Args:
            dtype: of the features, float16 or float32.
            positions: of level 4.
            vectors: how many there are, see `presence.Objects`.
            argument: a packed `LIKENESS`; its objects are laid out by `tiled`.
            stream: where the launch is queued.
        """
        if vectors:
            grid, name = (-(-vectors // TILE), -(-positions // 32)), "hsnet_likeness"
            self._cuda.launch(self._kernels, name + _ending(dtype), grid, (32, 1), argument, stream)

    def guide(self, dtype: Any, width: int, height: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_guide`: the colours that guide the refinement of a frame's masks.

        Args:
            dtype: of the network's input, float16 or float32.
            width: of the fine grid, twice the logits'.
            height: of the fine grid.
            argument: a packed `GUIDE`.
            stream: where the launch is queued.
        """
        self._start("hsnet_guide" + _ending(dtype), width, height, argument, stream)

    def weigh(self, dtype: Any, positions: int, shots: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_count` and `hsnet_weigh`: add the colour model's evidence to the logits.

        Args:
            dtype: of the logits, float16 or float32.
            positions: of the logits.
            shots: how many there are.
            argument: a packed `COLOUR`; its counts must be zero.
            stream: where the launches are queued.
        """
        grid = (-(-positions // 128), shots)
        for kernel in ("hsnet_count", "hsnet_weigh"):
            name = kernel + _ending(dtype)
            self._cuda.launch(self._kernels, name, grid, (128, 1), argument, stream)

    def fit(self, positions: int, shots: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_fit`: each shot's probability as a linear function of colour, by window.

        Args:
            positions: of the logits.
            shots: how many there are.
            argument: a packed `FIT`.
            stream: where the launch is queued.
        """
        grid = (-(-positions // 128), shots)
        self._cuda.launch(self._kernels, "hsnet_fit", grid, (128, 1), argument, stream)

    def refine(self, positions: int, shots: int, argument: bytes, stream: Any) -> None:
        """Launch `hsnet_refine`: from those functions to refined logits.

        Args:
            positions: of the refined logits.
            shots: how many there are.
            argument: a packed `REFINE`.
            stream: where the launch is queued.
        """
        grid = (-(-positions // 128), shots)
        self._cuda.launch(self._kernels, "hsnet_refine", grid, (128, 1), argument, stream)

    def close(self) -> None:
        """Unload the kernels; none may still be running."""
        self._cuda.unload_kernels(self._kernels)

    def _start(self, name: str, width: int, height: int, argument: bytes, stream: Any) -> None:
        grid = (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]))
        self._cuda.launch(self._kernels, name, grid, _BLOCK, argument, stream)


def tiled(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors [N,C] as `hsnet_likeness` reads them, [C, N rounded up to whole tiles]."""
    count, channels = vectors.shape
    found = np.zeros((channels, -(-count // TILE) * TILE), np.float32)
    found[:, :count] = vectors.T
    return found


def histogram_bytes(shots: int) -> int:
    """Bytes of the `counts` of `hsnet_count`, which must be zero before."""
    return 4 * shots * (2 * (BINS**3 + 1) + 1)


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
