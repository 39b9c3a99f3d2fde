"""The three graphs, whatever runs them: what goes in and out, and running them in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BackendError

if TYPE_CHECKING:
    from hsnet_trt.runtime.gpu_frames import GpuFrames

Tensors: TypeAlias = "dict[str, npt.NDArray[Any]]"

FEATURES = ("f2", "f3", "f4")
SUPPORTS = ("s2", "s3", "s4")
GRAPHS = ("features", "support", "match")
INPUTS = {"features": ("image",), "support": (*FEATURES, "mask"), "match": (*FEATURES, *SUPPORTS)}
OUTPUTS = {"features": FEATURES, "support": SUPPORTS, "match": ("logits",)}


@dataclass(frozen=True)
class Limits:
    """How much one call of a graph may be given."""

    images: int  # N of features
    shots: int  # S of support
    queries: int  # B of match
    supports: int  # S of match


class Runner(Protocol):
    """What runs a bundle's graphs; safe to call from several threads."""

    @property
    def backend(self) -> str:
        """onnxruntime, tensorrt or tensorrt_rtx."""
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
    def frames(self) -> GpuFrames | None:
        """The short way of a frame on a GPU; None where the CPU prepares and draws."""
        ...

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run `graph` once; inputs are cast to its float type, outputs have it."""
        ...

    def close(self) -> None:
        """Free what it holds; harmless when repeated."""
        ...


def run_features(runner: Runner, images: npt.NDArray[np.float32]) -> Tensors:
    """Images [N,3,H,W] -> `f2`, `f3`, `f4`, each [N,L,C,h*w]."""
    return _in_chunks(runner, "features", {"image": images}, runner.limits.images)


def run_support(runner: Runner, features: Tensors, masks: npt.NDArray[np.float32]) -> Tensors:
    """Features of S supports and their masks [S,H,W] -> `s2`, `s3`, `s4`, each [S,L,C,h*w]."""
    return _in_chunks(runner, "support", {**features, "mask": masks}, runner.limits.shots)


def run_match(runner: Runner, features: Tensors, supports: Tensors) -> npt.NDArray[np.float32]:
    """Match every query with every support.

    Args:
        runner: what runs the graph.
        features: `f2`, `f3`, `f4` of B queries.
        supports: `s2`, `s3`, `s4` of S supports; more than the runner's limit go in chunks.

    Returns:
        Logits float32 [B,S,2,h,w] at decoder resolution.

    Raises:
        BackendError: the logits are not finite.
    """
    queries, shots = len(features["f2"]), len(supports["s2"])
    rows = []
    for first in range(0, queries, runner.limits.queries):
        query = slice(first, first + runner.limits.queries)
        row = []
        for start in range(0, shots, runner.limits.supports):
            shot = slice(start, start + runner.limits.supports)
            part = {name: features[name][query] for name in FEATURES}
            part.update({name: supports[name][shot] for name in SUPPORTS})
            row.append(runner.run("match", part)["logits"])
        rows.append(row[0] if len(row) == 1 else np.concatenate(row, axis=1))
    logits = (rows[0] if len(rows) == 1 else np.concatenate(rows)).astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise not_finite(f"at precision {runner.precision} on {runner.backend}")
    return logits


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
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in OUTPUTS[graph]}
