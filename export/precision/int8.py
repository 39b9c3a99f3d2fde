"""INT8 graphs for an existing bundle: choose layers within a budget, measure, and write."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx

from hsnet_trt.calibration.budget import Attempt, Chosen, fit_budget
from hsnet_trt.calibration.judge import Cost
from hsnet_trt.calibration.modelopt import check_modelopt, quantize_with_modelopt
from hsnet_trt.calibration.network import MemoryRunner
from hsnet_trt.calibration.quantize import quantize
from hsnet_trt.calibration.sensitivity import rank
from hsnet_trt.calibration.subject import Subject
from hsnet_trt.calibration.table import CalibrationTable
from hsnet_trt.calibration.workbench import EPISODES, Workbench
from hsnet_trt.errors import InputError
from hsnet_trt.export.precision.emulation import emulated
from hsnet_trt.export.precision.fp16 import to_fp16
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.bundle import Bundle, check_place
from hsnet_trt.runtime.bundle.figures import AccuracyFigure, ParityFigure, Tolerance
from hsnet_trt.runtime.bundle.manifest import GraphFile, TensorSpec
from hsnet_trt.runtime.bundle.variants import add_variants, layers_name
from hsnet_trt.runtime.matching.graphs import GRAPHS
from hsnet_trt.runtime.verify import golden_figures, golden_of

JUDGED, RANKED = 100, 4  # episodes to measure mIoU on, and to rank by SQNR, which varies little
# Margins of the tolerance over the measured difference: integer kernels may round ties differently.
_MARGIN, _FLIPS = 2.0, 0.005

Figure = TypeVar("Figure", ParityFigure, AccuracyFigure)
Pass = Callable[[onnx.ModelProto], onnx.ModelProto]
Quantizer = Callable[..., onnx.ModelProto]  # with the arguments of `quantize`


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        bundle: the written bundle.
        table: the ranges.
        chosen: the INT8 layers, and the search that chose them.
        cost: measured on episodes; None if `judged` was 0.
    """

    bundle: Bundle
    table: CalibrationTable
    chosen: Chosen
    cost: Cost | None


def calibrate(
    bench: Workbench,
    out: str | os.PathLike[str],
    *,
    ranges: Path | None = None,
    method: str | None = None,
    episodes: int = EPISODES,
    judged: int = JUDGED,
    budget: float | None = None,
    quantizer: str = "onnxruntime",
    rest: str = "fp16",
    command: str = "",
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Calibration:
    """Write a bundle with INT8 graphs in addition to its own.

    Args:
        bench: the bundle and the source of episodes.
        out: where to write; the bundle's own folder is updated in place.
        ranges: a calibration file to use instead of episodes.
        method: minmax, percentile or entropy; None for the file's own, or percentile.
        episodes: number of episodes for the ranges.
        judged: number of episodes to measure mIoU on; 0 measures nothing.
        budget: points of mIoU that may be lost; the most sensitive layers then stay float.
        quantizer: the library that writes the graphs, "onnxruntime" or, if installed, "modelopt".
        rest: precision of everything that is not INT8, fp16 or fp32; the scales are always FP32.
            For the packed lowering, which CPUs run, it is always fp32.
        command: the command line to record.
        on_attempt: called after each evaluation of the search.

    Raises:
        InputError: an invalid argument; see also `collect`, `CalibrationTable.check` and
            `fit_budget`. Nothing is written.
        BundleError: `out` holds something that is not a bundle, or cannot be written.
    """
    check_place(out)
    if budget is not None and judged < 1:
        raise InputError(
            "an accuracy budget cannot be kept where nothing is judged",
            expected="--judged 100, or so",
            found=f"--judged {judged}",
        )
    for_cpu = bench.subject.for_cpu
    write, (finish, judged_as, arithmetic) = _quantizer(quantizer), _rest(rest)
    if for_cpu:  # nothing on a CPU is FP16
        if quantizer != "onnxruntime":
            raise InputError(
                "the packed lowering is quantised for ONNX Runtime on CPUs",
                expected="--quantizer onnxruntime",
                found=quantizer,
                fix="leave --quantizer out, or choose another --lowering",
            )
        finish, judged_as, arithmetic = _rest("fp32")
    table = bench.calibrate(ranges, method, episodes, command)
    if judged:
        judge, data = bench.judge(judged)

        def ranking() -> Sequence[str]:
            few, name = bench.judge(min(judged, RANKED))
            found = rank(few, name, blocks=False, progress=bench.progress)
            return [entry.name for entry in found.layers]

        chosen = fit_budget(judge, budget, ranking, on_attempt)
    else:
        layers = [x for p in bench.subject.placements.values() for x in p.layers]
        chosen = Chosen(tuple(layers), (), None, ())
    graphs = {"support": finish(bench.subject.graphs["support"])}
    for name in bench.subject.placements:
        mine = [layer for layer in chosen.layers if layer.graph == name]
        form = (table.unsigned(name),) if for_cpu else ()
        made = write(bench.subject.graphs[name], mine, table.thresholds(name), *form)
        graphs[name] = finish(made)
    run = {name: judged_as(graph) for name, graph in graphs.items()}
    cost, accuracy = None, []
    if judged:
        # Measured on the graphs as written, with the other parts in their own precision.
        cost = judge.measure(run, lambda number: bench.progress("INT8", number, len(judge)))
        accuracy = [
            AccuracyFigure(
                size=bench.subject.size,
                precision="int8",
                arithmetic=arithmetic,
                data=data,
                episodes=cost.episodes,
                miou=cost.miou,
                miou_fp32=cost.miou_fp32,
                changed=cost.changed,
                lowering=table.lowering,
            )
        ]
    tolerance, parity = _against_golden(bench.subject, run, arithmetic)
    at = f"{bench.subject.size[0]}x{bench.subject.size[1]}_{table.lowering}"
    choice = json.dumps(_choice(bench.subject, chosen), indent=1) + "\n"
    manifest = bench.subject.bundle.manifest
    bundle = add_variants(
        bench.subject.bundle,
        out,
        [_entry(bench.subject.files[name], graphs[name], for_cpu) for name in GRAPHS],
        tolerance={"int8": tolerance},
        parity=[*_kept(manifest.parity, parity), parity],
        accuracy=[*_kept(manifest.accuracy, parity), *accuracy],
        files={
            f"calibration/{at}.json": table.to_json().encode(),
            layers_name(bench.subject.size, table.lowering): choice.encode(),
        },
        command=command,
    )
    return Calibration(bundle, table, chosen, cost)


def _quantizer(name: str) -> Quantizer:
    if name == "modelopt":
        check_modelopt()
        return quantize_with_modelopt
    if name != "onnxruntime":
        raise InputError(
            "there is no such quantiser", expected="onnxruntime | modelopt", found=repr(name)
        )
    return quantize


def _rest(precision: str) -> tuple[Pass, Pass, str]:
    """(conversion to that precision, its emulation for a CPU, name of the arithmetic)."""
    if precision == "fp16":
        return to_fp16, emulated, "emulated"
    if precision != "fp32":
        raise InputError(
            "what is not INT8 cannot have that precision",
            expected="fp16 | fp32",
            found=repr(precision),
        )
    return lambda graph: graph, lambda graph: graph, "onnxruntime"


def _entry(
    fp32: GraphFile, graph: onnx.ModelProto, for_cpu: bool
) -> tuple[GraphFile, Mapping[str, bytes]]:
    """The manifest's entry of an INT8 graph: that of the FP32 graph with other types and opset.

    Memory is estimated as for FP32, because what Q/DQ pairs save depends on the engine. For a CPU,
    all three graphs get the packed lowering, to distinguish them from those for TensorRT.
    """
    variant = dataclasses.replace(fp32.variant, precision="int8")
    file = fp32.file.replace("_fp32", "_int8")
    if for_cpu and not variant.lowering:
        variant = dataclasses.replace(variant, lowering=CPU_LOWERING)
        file = file.replace(".onnx", f"_{CPU_LOWERING}.onnx")
    (opset,) = (entry.version for entry in graph.opset_import if entry.domain == "")
    entry = dataclasses.replace(
        fp32,
        variant=variant,
        file=file,
        opset=opset,
        inputs=_typed(fp32.inputs, graph.graph.input),
        outputs=_typed(fp32.outputs, graph.graph.output),
    )
    return entry, {file: graph.SerializeToString()}


def _typed(
    specs: Sequence[TensorSpec], values: Sequence[onnx.ValueInfoProto]
) -> tuple[TensorSpec, ...]:
    kinds = {
        v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name
        for v in values
    }
    return tuple(dataclasses.replace(spec, dtype=kinds[spec.name]) for spec in specs)


def _against_golden(
    subject: Subject, graphs: Mapping[str, onnx.ModelProto], arithmetic: str
) -> tuple[Tolerance, ParityFigure]:
    runner = MemoryRunner(graphs, packing=subject.files["match"].packing)
    golden = golden_of(subject.bundle, subject.size)
    figures, flipped = golden_figures(subject.bundle, golden, runner)
    runner.close()
    logits = figures[-1]
    spread = logits.max_difference / logits.relative if logits.relative else 0.0
    tolerance = Tolerance(
        max_difference=_MARGIN * logits.relative,
        p999_difference=_MARGIN * logits.relative_p999,
        flipped=min(1.0, _MARGIN * flipped + _FLIPS),
    )
    known = golden.tolerance.get("int8")
    if known is not None:  # of the other form (CPU or TensorRT), which the bundle may hold too
        tolerance = Tolerance(*map(max, dataclasses.astuple(tolerance), dataclasses.astuple(known)))
    v = subject.files["match"].variant
    parity = ParityFigure(
        size=subject.size,
        precision="int8",
        lowering=v.lowering,
        correlation=v.correlation,
        against="torch-float32",
        arithmetic=arithmetic,
        queries=2,
        supports=2,
        max_difference=logits.max_difference,
        p999_difference=logits.relative_p999 * spread,
        flipped=flipped,
        logits_std=spread,
    )
    return tolerance, parity


def _kept(figures: Sequence[Figure], new: ParityFigure) -> list[Figure]:
    """Those of INT8 at the same size, of another lowering that is known."""
    mine = (new.size, new.precision)
    return [
        figure
        for figure in figures
        if (figure.size, figure.precision) == mine and figure.lowering not in ("", new.lowering)
    ]


def _choice(subject: Subject, chosen: Chosen) -> dict[str, Any]:
    """Which layers are INT8 and why the others are not, as JSON-able data."""
    int8 = {
        name: [layer.name for layer in chosen.layers if layer.graph == name]
        for name in subject.placements
    }
    stays = "its result is the logits, or is added to them, or it resizes"
    left = {name: dict.fromkeys(p.left, stays) for name, p in subject.placements.items()}
    for name, placement in subject.placements.items():
        left[name] |= {
            layer.name: "kept for the accuracy budget"
            for layer in placement.layers
            if layer.name in chosen.kept
        }
    path = [{"float_layers": a.kept, **dataclasses.asdict(a.cost)} for a in chosen.path]
    return {"int8": int8, "float": left, "path": path}
