"""Running the three graphs, in chunks of a `Runner`'s limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.matching.graphs import FEATURES, Tensors, not_finite
from hsnet_trt.runtime.matching.packing import (
    Shot,
    compress,
    expand,
    pack,
    side_by_side,
    supports_in,
    views,
)
from hsnet_trt.runtime.matching.runner import Runner


def run_features(runner: Runner, images: npt.NDArray[np.float32]) -> Tensors:
    """Images [N,3,H,W] -> `f2`, `f3`, `f4`, each [N,L,C,row]."""
    return _in_chunks(runner, "features", {"image": images}, runner.limits.images)


def run_support(runner: Runner, features: Tensors, masks: npt.NDArray[np.float32]) -> Tensors:
    """Features of S supports and their masks [S,H,W] -> `s2`, `s3`, `s4`, each [S,L,C,row].

    With a background contrast, also `c3` and `c4`; masks are then -1 outside the photograph.
    """
    return _in_chunks(runner, "support", {**features, "mask": masks}, runner.limits.shots)


def match_calls(runner: Runner, classes: Iterable[list[Shot]]) -> list[Tensors]:
    """The support inputs of each call of `match`, for the encoded shots of some classes.

    With packed supports, each shot in its list is replaced by a view of the packed arrays, so that
    its columns are not held twice (beyond one call's share while this runs).
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


def arranged(shots: Sequence[Shot], *, columns: bool) -> Tensors:
    """Shots as an unpacked `match` takes them: dense, or as columns for the correlation plugin."""
    return side_by_side(shots) if columns else expand(shots)


def run_match(
    runner: Runner, features: Tensors, supports: Tensors | Sequence[Tensors]
) -> npt.NDArray[np.float32]:
    """Match every query with every support.

    Args:
        runner: what runs the graph.
        features: `f2`, `f3`, `f4` of B queries.
        supports: `s2`, `s3`, `s4` (and `c3`, `c4`) of S supports, matched in several calls if they
            exceed the runner's limit; or the calls' inputs, made once by `match_calls`.

    Returns:
        Logits float32 [B,S,2,h,w] at decoder resolution.

    Raises:
        BackendError: the backend failed, or the logits are not finite.
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


def _in_chunks(runner: Runner, graph: str, inputs: Tensors, limit: int) -> Tensors:
    count = len(next(iter(inputs.values())))
    chunks = [
        runner.run(graph, {name: array[first : first + limit] for name, array in inputs.items()})
        for first in range(0, count, limit)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
