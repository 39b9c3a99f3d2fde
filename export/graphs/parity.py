"""Compare exported graphs in ONNX Runtime with PyTorch, in float32 and in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
import torch

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.lowering import Grid, Run, padded
from hsnet_trt.export.graphs.probe import Probe, normalise
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.model.hsnet import HSNet, Levels
from hsnet_trt.runtime.bundle.figures import ParityFigure, Tolerance
from hsnet_trt.runtime.bundle.manifest import Growth
from hsnet_trt.runtime.differences import Differences, flipped
from hsnet_trt.runtime.matching.graphs import FEATURES, names_of
from hsnet_trt.runtime.matching.packing import CONTRASTS
from hsnet_trt.runtime.ort.device_session import TYPES
from hsnet_trt.runtime.ort.limits import threads

# float32 arithmetic in another order stays under 5e-5 on the reference weights of all backbones.
TOLERANCE = {
    "fp32": Tolerance(max_difference=1e-3, p999_difference=1e-3, flipped=1e-3),
    "fp16": Tolerance(max_difference=1e-1, p999_difference=5e-2, flipped=1e-2),
}
FP16_BATCHES = ((1, 1), (1, 2))  # rounding takes twice the memory
BATCHES = ((1, 1), (2, 3), (3, 2))  # queries, supports; (1, 1) is always tried
_MEMORY = 4 << 30  # bytes of activations; larger batches are left out


def session(model: bytes) -> Run:
    """An ONNX graph as a function from named arrays to named arrays, on the CPU.

    Inputs are cast to the graph's float type.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    runner = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in runner.get_outputs()]
    types = {value.name: TYPES[value.type] for value in runner.get_inputs()}

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        feed = {name: inputs[name].astype(kind, copy=False) for name, kind in types.items()}
        return dict(zip(names, runner.run(names, feed), strict=True))

    return run


class Reference:
    """PyTorch's results for three queries and three supports.

    `float32` holds `f2`.. of the queries and `s2`.. (`c3`..) of the supports, in padded rows as in
    the graphs, and `logits` [3,3,2,h,w]. `logits64` [1,1,2,h,w] is the float64 result for the first
    query and support only, because it is slow.
    """

    def __init__(self, model: HSNet, size: Grid) -> None:
        self.probe = Probe.draw(size, model.grids(size), queries=3, supports=3, seed=7)
        self.float32 = _outputs(model, self.probe, 3, torch.float32)
        self.logits64 = _outputs(model, self.probe, 1, torch.float64)["logits"]


def check_parity(
    reference: Reference,
    precision: str,
    form: tuple[str, str],
    graphs: Sequence[onnx.ModelProto],
    activation_bytes: Growth,
    taking: Callable[[Run], Run] | None = None,
) -> Iterator[ParityFigure]:
    """Run `features`, `support` and `match` one after the other, as the runtime does, and compare.

    FP32 is judged as ONNX Runtime computes it. FP16 is judged rounded after every operation (see
    `export.precision.emulation`), and then as ONNX Runtime computes it, to show that it can.

    Args:
        reference: the outputs to compare with.
        precision: fp32 or fp16.
        form: the lowering and the correlation of `match`, for the figures.
        graphs: the three graphs.
        activation_bytes: of `match` in FP32.
        taking: wraps a `match` that does not take the outputs of `support` directly.

    Yields:
        the figures, for several B and S.

    Raises:
        ExportError: a figure exceeds `TOLERANCE`.
    """
    rounds: list[tuple[str, tuple[tuple[int, int], ...]]] = [("onnxruntime", BATCHES)]
    if precision == "fp16":
        rounds = [("emulated", FP16_BATCHES), ("onnxruntime", FP16_BATCHES[:1])]
    for arithmetic, batches in rounds:
        change = emulated if arithmetic == "emulated" else (lambda model: model)
        runs = [session(change(graph).SerializeToString()) for graph in graphs]
        if taking is not None:
            runs[-1] = taking(runs[-1])
        facts = {"precision": precision, "lowering": form[0], "correlation": form[1]}
        yield from _compare(
            reference, runs, batches, activation_bytes, {**facts, "arithmetic": arithmetic}
        )


def _compare(
    reference: Reference,
    runs: Sequence[Run],
    batches: Sequence[tuple[int, int]],
    activation_bytes: Growth,
    facts: dict[str, str],
) -> Iterator[ParityFigure]:
    features, support, match = runs
    probe = reference.probe
    for queries, supports in batches:
        if queries * supports > 1 and activation_bytes.at(queries, supports) > _MEMORY:
            continue
        query = features({"image": normalise(probe.queries[:queries]).numpy()})
        encoded = features({"image": normalise(probe.supports[:supports]).numpy()})
        encoded = support({**encoded, "mask": probe.masks[:supports].astype(np.float32)})
        found = match({**query, **encoded})["logits"]
        for name, logits in (
            ("float32", reference.float32["logits"]),
            ("float64", reference.logits64),
        ):
            expected = logits[:queries, :supports]
            compared = found[: expected.shape[0], : expected.shape[1]]
            apart = Differences.between(compared, expected)
            figure = ParityFigure(
                size=(probe.masks.shape[1], probe.masks.shape[2]),
                **facts,
                against=f"torch-{name}",
                queries=queries,
                supports=supports,
                max_difference=apart.largest,
                p999_difference=apart.p999,
                flipped=flipped(compared, expected),
                logits_std=apart.spread,
            )
            _judge(figure)
            yield figure


def _outputs(model: HSNet, probe: Probe, count: int, dtype: torch.dtype) -> dict[str, np.ndarray]:
    exact = copy.deepcopy(model).eval().to(dtype)
    queries = normalise(probe.queries[:count]).to(dtype)
    supports = normalise(probe.supports[:count]).to(dtype)
    masks = torch.from_numpy(probe.masks[:count]).to(dtype)
    with torch.no_grad():
        query = exact.features(queries)
        encoded = exact.support(exact.features(supports), masks)
        logits = [
            # Pair by pair: one pair at 400 x 400 takes half a gigabyte in float64.
            exact.match(
                _one(query, b),
                tuple(level[s : s + 1] for level in encoded),
                (masks.shape[1], masks.shape[2]),
            )
            for b in range(count)
            for s in range(count)
        ]
    together = torch.cat(logits).flatten(0, 1).unflatten(0, (count, count))
    _, supported = names_of("support", contrast=model.contrast is not None)
    outputs = dict(zip((*FEATURES, *supported), (*query, *encoded), strict=True))
    rows = {name: value if name in CONTRASTS else padded(value) for name, value in outputs.items()}
    return {name: value.numpy() for name, value in rows.items()} | {"logits": together.numpy()}


def _one(levels: Levels, index: int) -> Levels:
    level2, level3, level4 = (level[index : index + 1] for level in levels)
    return level2, level3, level4


def _judge(figure: ParityFigure) -> None:
    bounds, std = TOLERANCE[figure.precision], figure.logits_std
    largest, p999 = bounds.max_difference * std, bounds.p999_difference * std
    if not (  # NaN is out of tolerance, too
        figure.max_difference <= largest
        and figure.p999_difference <= p999
        and figure.flipped <= bounds.flipped
    ):
        raise ExportError(
            f"the exported {figure.precision} {figure.lowering} {figure.correlation} graphs do not "
            "compute what the model does",
            expected=f"logits within {largest:.3g} of {figure.against}, 99.9 % of them within "
            f"{p999:.3g}, at most {100 * bounds.flipped:.2g} % of the positions of another class "
            f"(logits std {std:.3g})",
            found=f"{figure.max_difference:.3g}, {figure.p999_difference:.3g} and "
            f"{100 * figure.flipped:.2g} % for {figure.queries} queries and {figure.supports} "
            f"supports at {figure.size[0]}x{figure.size[1]}",
            fix="nothing was written; weights with non-finite or huge values can cause this"
            + (
                "; --precision fp32 alone exports without FP16"
                if figure.precision != "fp32"
                else ""
            ),
        )
