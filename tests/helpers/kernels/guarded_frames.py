"""The emulated frame kernels, started through `FrameKernels` in guarded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from helpers.kernels.emulated_frames import find_kernel, open_image
from helpers.kernels.guarded_memory import launch_twice

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.frames.frame_kernels import (
    COLOUR,
    FIT,
    GUIDE,
    LIKENESS,
    PREPARE,
    REFINE,
    SETTLE,
    VOTE,
    FrameKernels,
    histogram_bytes,
    tiled,
)
from hsnet_trt.runtime.frames.frame_tables import make_tables
from hsnet_trt.runtime.pictures.colour_model import MOST, RAREST, SURE, WEIGHT
from hsnet_trt.runtime.pictures.guided_filter import EPSILON, SUREST, radius
from hsnet_trt.runtime.pictures.preprocess import Placement, normalisation


class Direct:
    """As much of a CUDA driver as `FrameKernels` needs; a launch is done at once."""

    def load_kernels(self, image: bytes, names: Sequence[str], size: Mapping[str, int]) -> Any:
        kernels = {name: find_kernel(open_image(image), name) for name in names}
        assert {name: kernel and kernel.size for name, kernel in kernels.items()} == dict(size)
        return kernels

    def launch(self, kernels: Any, name: str, *how: Any) -> None:
        grid, block, argument, _ = how
        kernels[name].launch(grid, block, argument)


class GuardedFrames:
    """Each method starts one kernel and gives what it wrote."""

    def __init__(self, image: bytes) -> None:
        self.kernels = FrameKernels(Direct(), image)  # type: ignore[arg-type]

    def prepare(
        self, pixels: np.ndarray, placement: Placement, dtype: Any, *, pad: int, swap: bool
    ) -> np.ndarray:
        """Planes [3,h,w] of pixels uint8 [H,W,3], whose rows lie `pad` bytes further apart."""
        height, width = placement.source
        rows = np.full((height, 3 * width + pad), 255, np.uint8)
        rows[:, : 3 * width] = pixels.reshape(height, -1)
        tables = vars(make_tables(placement, (2, 2)))
        names = ("columns", "column_taps", "rows", "row_taps")
        scale, shift = normalisation(Preprocessing())

        def start(at: Mapping[str, int]) -> None:
            argument = PREPARE.pack(
                at["pixels"],
                at["planes"],
                *(at[name] for name in names),
                rows.shape[1],
                tables["column_taps"].shape[1],
                tables["row_taps"].shape[1],
                *placement.network,
                placement.top,
                placement.left,
                *placement.content,
                swap,
                *scale,
                *shift,
            )
            self.kernels.prepare(np.dtype(dtype), *placement.network[::-1], argument, None)

        # The last row ends with its last pixel.
        inputs = {"pixels": rows.reshape(-1)[: rows.size - pad], **{n: tables[n] for n in names}}
        outputs = {"planes": np.empty((3, *placement.network), dtype)}
        return launch_twice(start, inputs, outputs)["planes"]

    def vote(
        self,
        logits: np.ndarray,
        shots: Sequence[int],
        placement: Placement,
        *,
        chunk: int | None = None,
        scores: bool = True,
    ) -> dict[str, np.ndarray]:
        """Votes, scores and largest votes of logits [S,2,h,w], which lie in chunks of shots."""
        size, (height, width) = (len(shots), *placement.source), placement.source
        chunk = chunk or len(logits)
        decoder = logits.shape[2:]
        tables = vars(make_tables(placement, decoder))
        names = ("low_x", "along_x", "low_y", "along_y")
        chunks, elements = _chunks(logits, chunk)

        def start(at: Mapping[str, int]) -> None:
            argument = VOTE.pack(
                at["logits"],
                *(at[name] for name in names),
                at["first"],
                at["votes"],
                at.get("scores", 0),
                at["largest"],
                elements,
                chunk,
                len(shots),
                *decoder,
                height,
                width,
            )
            self.kernels.vote(logits.dtype, width, height, argument, None)

        inputs = {"logits": chunks, "first": np.cumsum([0, *shots]).astype(np.int32)}
        inputs.update({name: tables[name] for name in names})
        outputs = {"votes": np.empty(size, np.uint16), "scores": np.empty(size, np.float32)}
        if not scores:
            del outputs["scores"]
        zeroed = {"largest": np.zeros(len(shots) + 1, np.int32)}
        return launch_twice(start, inputs, outputs, zeroed)

    def guide(
        self, planes: np.ndarray, decoder: tuple[int, int], std: Sequence[float]
    ) -> dict[str, np.ndarray]:
        """The `fine` and the coarse `guide` of the network's input [3,H,W]."""
        height, width = decoder

        def start(at: Mapping[str, int]) -> None:
            argument = GUIDE.pack(
                at["planes"], at["fine"], at["guide"], *planes.shape[1:], height, width, *std
            )
            self.kernels.guide(planes.dtype, 2 * width, 2 * height, argument, None)

        outputs = {
            "fine": np.empty((3, 2 * height, 2 * width), np.float32),
            "guide": np.empty((3, height, width), np.float32),
        }
        return launch_twice(start, {"planes": planes}, outputs)

    def weigh(
        self,
        logits: np.ndarray,
        guide: np.ndarray,
        mean: Sequence[float],
        *,
        chunk: int | None = None,
    ) -> dict[str, np.ndarray]:
        """The `values` [S,h,w] of logits [S,2,h,w] in chunks of shots, and `invalid` [1]."""
        shots, _, height, width = logits.shape
        chunk = chunk or shots
        chunks, elements = _chunks(logits, chunk)

        def start(at: Mapping[str, int]) -> None:
            argument = COLOUR.pack(
                *(at[name] for name in ("logits", "guide", "counts", "values", "invalid")),
                elements,
                chunk,
                height,
                width,
                *mean,
                WEIGHT,
                SURE,
                RAREST,
                MOST,
            )
            self.kernels.weigh(logits.dtype, height * width, shots, argument, None)

        outputs = {"values": np.empty((shots, height, width), np.float32)}
        counts = np.zeros(histogram_bytes(shots) // 4, np.int32)
        zeroed = {"invalid": np.zeros(1, np.int32), "counts": counts}
        return launch_twice(start, {"logits": chunks, "guide": guide}, outputs, zeroed)

    def fit(self, values: np.ndarray, guide: np.ndarray) -> np.ndarray:
        """The `lines` [S,4,h,w] of values [S,h,w]."""
        shots, height, width = values.shape

        def start(at: Mapping[str, int]) -> None:
            argument = FIT.pack(
                *(at[name] for name in ("values", "guide", "lines")),
                height,
                width,
                radius(height),
                radius(width),
                EPSILON,
            )
            self.kernels.fit(height * width, shots, argument, None)

        outputs = {"lines": np.empty((shots, 4, height, width), np.float32)}
        return launch_twice(start, {"values": values, "guide": guide}, outputs)["lines"]

    def refine(self, lines: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """Refined logits [S,2,2h,2w] of lines [S,4,h,w]."""
        shots, _, height, width = lines.shape

        def start(at: Mapping[str, int]) -> None:
            argument = REFINE.pack(
                *(at[name] for name in ("lines", "fine", "logits")),
                height,
                width,
                radius(height),
                radius(width),
                SUREST,
            )
            self.kernels.refine(4 * height * width, shots, argument, None)

        outputs = {"logits": np.empty((shots, 2, 2 * height, 2 * width), np.float32)}
        return launch_twice(start, {"lines": lines, "fine": fine}, outputs)["logits"]

    def likeness(self, last: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Float32 [N] of the features [C,h*w] of one query and the vectors [N,C] of objects."""
        count = len(vectors)
        best = {"best": np.zeros(count, np.int32)}

        def start(at: Mapping[str, int]) -> None:
            argument = LIKENESS.pack(at["last"], at["objects"], at["best"], *last.shape, count)
            self.kernels.likeness(last.dtype, last.shape[1], count, argument, None)

        inputs = {"last": np.ascontiguousarray(last), "objects": tiled(vectors)}
        return launch_twice(start, inputs, {}, best)["best"].view(np.float32)

    def settle(
        self, votes: np.ndarray, scores: np.ndarray | None, largest: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Labels, and masks where there are scores, of votes [classes,H,W]."""
        classes, count = len(votes), votes[0].size
        inputs = {"votes": votes, "largest": largest}
        outputs = {"labels": np.empty(votes.shape[1:], np.uint8)}
        if scores is not None:
            inputs["scores"] = scores
            outputs["masks"] = np.empty(votes.shape, np.uint8)

        def start(at: Mapping[str, int]) -> None:
            argument = SETTLE.pack(
                at["votes"],
                at.get("scores", 0),
                at["largest"],
                at["labels"],
                at.get("masks", 0),
                classes,
                count,
            )
            self.kernels.settle(count, argument, None)

        return launch_twice(start, inputs, outputs)


def _chunks(logits: np.ndarray, chunk: int) -> tuple[np.ndarray, int]:
    """Logits [S,2,h,w] in chunks of so many shots, and elements from one chunk to the next.

    NaN fills up the last chunk and what lies between two: nothing may look at it.
    """
    elements = chunk * logits[0].size + 5
    chunks = np.full((-(-len(logits) // chunk), elements), np.nan, logits.dtype)
    for s, shot in enumerate(logits):
        start = s % chunk * shot.size
        chunks[s // chunk, start : start + shot.size] = shot.reshape(-1)
    return chunks, elements
