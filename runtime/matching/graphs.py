"""The three graphs, whatever runs them: what goes in and out, and running them in chunks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle.manifest import GraphFile, PackedLevel
from hsnet_trt.runtime.matching.packing import (
    CONTRASTS,
    LEVELS,
    Shot,
    compress,
    expand,
    pack,
    side_by_side,
    supports_in,
    views,
)
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.window import Window

Tensors: TypeAlias = "dict[str, npt.NDArray[Any]]"

FEATURES = ("f2", "f3", "f4")
SUPPORTS = LEVELS
PACKED_INPUTS = (*SUPPORTS, "w2", "w3", "w4", "p2", "p3", "p4")  # of a packed `match`
# Of one with the correlation plugin; see `packing.side_by_side`.
COLUMN_INPUTS = (*SUPPORTS, "a2", "a3", "a4", "n2", "n3", "n4")
GRAPHS = ("features", "support", "match")
INPUTS = {"features": ("image",), "support": (*FEATURES, "mask"), "match": (*FEATURES, *SUPPORTS)}
OUTPUTS = {"features": FEATURES, "support": SUPPORTS, "match": ("logits",)}


def names_of(
    graph: str, *, contrast: bool, columns: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What goes in and out of a graph.

    Args:
        graph: features, support or match.
        contrast: whether there is a background contrast, whose vectors go along.
        columns: whether it is a `match` that takes its supports as columns.
    """
    inputs = (*FEATURES, *COLUMN_INPUTS) if columns else INPUTS[graph]
    if contrast and graph == "match":
        inputs = (*inputs, *CONTRASTS)
    outputs = (*OUTPUTS[graph], *CONTRASTS) if contrast and graph == "support" else OUTPUTS[graph]
    return inputs, outputs


@dataclass(frozen=True)
class Limits:
    """How much one call of a graph may be given."""

    images: int  # N of features
    shots: int  # S of support
    queries: int  # B of match
    supports: int  # S of match


@dataclass(frozen=True)
class FrameAnswer:
    """What a GPU says of one frame [H,W]: labels uint8; by class, masks bool and scores float32.

    `matches`, float32 [N], are those of the objects' vectors: see `matching.presence`.
    """

    labels: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    scores: list[npt.NDArray[np.float32]]  # empty if they were not asked for
    timing: dict[str, float]  # milliseconds
    matches: npt.NDArray[np.float32]


class SubmittedFrame(Protocol):
    """A frame on the GPU; it is collected or abandoned, once."""

    def collect(self) -> FrameAnswer:
        """Wait for its answer. Raises BackendError: CUDA failed, or the logits are not finite."""
        ...

    def abandon(self) -> None:
        """Wait until the GPU is done with it, and forget it."""
        ...


class MatchedOnGpu(Protocol):
    """A frame on the GPU whose logits are known; it is drawn or abandoned, once."""

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """Of all shots, [S,2,h,w]."""
        ...

    @property
    def matches(self) -> npt.NDArray[np.float32]:
        """The best match of each object's vector, [N]: see `matching.presence`."""
        ...

    @property
    def features(self) -> Tensors:
        """`f2`, `f3`, `f4`, each [1,L,C,row], brought from the GPU."""
        ...

    def draw(self, logits: npt.NDArray[np.float32], *, scores: bool) -> FrameAnswer:
        """Draw other logits, [classes,2,h,w]. Raises BackendError: CUDA failed."""
        ...

    def abandon(self) -> None:
        """Forget it."""
        ...


class FrameLane(Protocol):
    """Frames that follow each other on the GPU, a fixed number of them at a time."""

    def submit(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], *, scores: bool
    ) -> SubmittedFrame:
        """Send a frame to the GPU; waits only for room.

        Args:
            pixels: uint8 [H,W,3] RGB; BGR views and padded rows cost no more.
            supports: of all shots, class after class, as `arranged` gives them; and their
                `objects`; the same dict as long as nothing changed.
            shots: how many shots each class has.
            scores: whether score maps are wanted.
        """
        ...

    def match(
        self, pixels: Pixels, supports: Tensors, shots: Sequence[int], window: Window | None = None
    ) -> MatchedOnGpu:
        """Send a frame as far as its logits, and wait; arguments are those of `submit`.

        Of a `window`, only that part is matched; what is drawn then is the whole frame.
        """
        ...

    def close(self) -> None:
        """Free the lane's memory; harmless when repeated."""
        ...


class GpuPipeline(Protocol):
    """A runner that takes pixels and gives masks, with nothing in between on the CPU."""

    @property
    def columns(self) -> bool:
        """As a `Runner`'s."""
        ...

    def open_lane(self, slots: int, sets: int = 1, *, refine: bool = False) -> FrameLane:
        """A lane for `slots` frames at a time; lanes share the GPU without harm.

        Frames that are matched with several support sets in turns say how many, and whether their
        masks are refined (`pictures.guided_filter`).
        """
        ...


class Runner(Protocol):
    """What runs a bundle's graphs; safe to call from several threads."""

    @property
    def backend(self) -> str:
        """tensorrt, tensorrt_rtx, onnxruntime_cuda or onnxruntime."""
        ...

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        ...

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        ...

    @property
    def limits(self) -> Limits:
        """How much one call may be given."""
        ...

    @property
    def packing(self) -> Sequence[PackedLevel]:
        """How `match` takes its supports packed in windows, by level; empty if it does not."""
        ...

    @property
    def columns(self) -> bool:
        """Whether `match` takes its supports as columns, for the correlation plugin."""
        ...

    @property
    def contrast(self) -> bool:
        """Whether the network has a background contrast: `c3` and `c4` go with the supports."""
        ...

    @property
    def frames(self) -> GpuPipeline | None:
        """Whole frames on the GPU; None where the CPU resizes photographs and draws masks."""
        ...

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; inputs are cast to its float type, outputs have it."""
        ...

    def close(self) -> None:
        """Free what it holds; harmless when repeated."""
        ...


def run_features(runner: Runner, images: npt.NDArray[np.float32]) -> Tensors:
    """Images [N,3,H,W] -> `f2`, `f3`, `f4`, each [N,L,C,row]."""
    return _in_chunks(runner, "features", {"image": images}, runner.limits.images)


def run_support(runner: Runner, features: Tensors, masks: npt.NDArray[np.float32]) -> Tensors:
    """Features of S supports and their masks [S,H,W] -> `s2`, `s3`, `s4`, each [S,L,C,row].

    With a background contrast `c3` and `c4` follow, and a mask is -1 outside of its photograph.
    """
    return _in_chunks(runner, "support", {**features, "mask": masks}, runner.limits.shots)


def match_calls(runner: Runner, classes: Iterable[list[Shot]]) -> list[Tensors]:
    """The inputs of one call of `match` after the other, for the encoded shots of some classes.

    Where these hold a shot as it is, the shot in its list becomes a view of them: nothing is held
    twice, and while this runs no more than one call's share.
    """
    places = [(shots, index) for shots in classes for index in range(len(shots))]
    step, calls = runner.limits.supports, []
    for first in range(0, len(places), step):
        mine = places[first : first + step]
        part = [shots[index] for shots, index in mine]
        if runner.packing:
            calls.append(pack(part, runner.packing))
            for (shots, index), view in zip(mine, views(calls[-1], part), strict=True):
                shots[index] = view
        else:
            calls.append(arranged(part, columns=runner.columns))
    return calls


def takes_columns(graph: GraphFile) -> bool:
    """Whether a `match` takes its supports as columns."""
    return graph.variant.correlation == "plugin"


def inputs_of_supports(names: Container[str]) -> tuple[str, ...]:
    """Those of the names that are inputs of a `match` and no packed one's, and not the queries'."""
    return tuple(name for name in (*COLUMN_INPUTS, *CONTRASTS) if name in names)


def arranged(shots: Sequence[Shot], *, columns: bool) -> Tensors:
    """Shots as `match` takes them: whole, or as columns for the correlation plugin."""
    return side_by_side(shots) if columns else expand(shots)


def run_match(
    runner: Runner, features: Tensors, supports: Tensors | Sequence[Tensors]
) -> npt.NDArray[np.float32]:
    """Match every query with every support.

    Args:
        runner: what runs the graph.
        features: `f2`, `f3`, `f4` of B queries.
        supports: `s2`, `s3`, `s4` (and `c3`, `c4`) of S supports, more than the runner's limit in
            several calls; or those calls, made once by `match_calls`.

    Returns:
        Logits float32 [B,S,2,h,w] at decoder resolution.

    Raises:
        BackendError: the logits are not finite.
    """
    calls = _calls(runner, supports) if isinstance(supports, dict) else supports
    rows = []
    for first in range(0, len(features["f2"]), runner.limits.queries):
        query = {name: features[name][first : first + runner.limits.queries] for name in FEATURES}
        row = [runner.run("match", {**query, **call})["logits"] for call in calls]
        rows.append(row[0] if len(row) == 1 else np.concatenate(row, axis=1))
    logits = (rows[0] if len(rows) == 1 else np.concatenate(rows)).astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise not_finite(f"at precision {runner.precision} on {runner.backend}")
    return logits


def _calls(runner: Runner, supports: Tensors) -> list[Tensors]:
    if runner.packing or runner.columns:
        return match_calls(runner, [compress(supports)])
    step = runner.limits.supports
    return [
        {name: supports[name][first : first + step] for name in supports_in(supports)}
        for first in range(0, len(supports["s2"]), step)
    ]


def not_finite(where: str) -> BackendError:
    """The error of logits that are infinite or NaN."""
    return BackendError(
        "the network's logits are not finite",
        expected="finite numbers",
        found=f"infinity or NaN, {where}",
        fix="run `hsnet-trt verify` on the bundle, and use precision fp32 if fp16 overflows",
    )


def _in_chunks(runner: Runner, graph: str, inputs: Tensors, limit: int) -> Tensors:
    count = len(next(iter(inputs.values())))
    chunks = [
        runner.run(graph, {name: array[first : first + limit] for name, array in inputs.items()})
        for first in range(0, count, limit)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
