"""`export`: from a PyTorch model to a bundle of checked ONNX graphs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial

from hsnet_trt import __version__
from hsnet_trt.errors import InputError, warn
from hsnet_trt.export.engines.plugin_files import KERNELS_NAME, compile_frame_kernels
from hsnet_trt.export.graphs.golden import golden
from hsnet_trt.export.graphs.graph_files import GraphFiles
from hsnet_trt.export.graphs.graphs import (
    CORRELATIONS,
    FORMS,
    export_features,
    export_match,
    export_support,
)
from hsnet_trt.export.graphs.lowering import Grid
from hsnet_trt.export.graphs.lowering_packed import packing_of, taking_packed
from hsnet_trt.export.graphs.lowering_plugin import taking_columns
from hsnet_trt.export.graphs.parity import TOLERANCE, Reference, check_parity
from hsnet_trt.model.checkpoint import weights_sha256
from hsnet_trt.model.contrast import BackgroundContrast
from hsnet_trt.model.hsnet import SMALLEST, HSNet
from hsnet_trt.model.self_support import SelfSupport
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.bundle import write_bundle
from hsnet_trt.runtime.bundle.figures import GoldenFile, ParityFigure
from hsnet_trt.runtime.bundle.manifest import GraphFile, Manifest, Model, Preprocessing
from hsnet_trt.runtime.frames.frame_kernels import bundled_name
from hsnet_trt.trt_plugins.compile_kernels import compiled_kernels

# TensorRT builds the first; CPUs run the second.
DEFAULT_LOWERINGS = ("conv2d", "packed")
EXPORT_PRECISIONS = ("fp32", "fp16")
LARGEST = 2048  # pixels a side; level 2 alone then correlates 2^32 pairs of positions

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in total


def export_bundle(
    model: HSNet,
    out: str | os.PathLike[str],
    *,
    sizes: Sequence[Grid] = ((400, 400),),
    lowerings: Sequence[str] = DEFAULT_LOWERINGS,
    correlations: Sequence[str] = ("native",),
    precisions: Sequence[str] = EXPORT_PRECISIONS,
    resize: str = "stretch",
    command: str = "",
    progress: Progress = lambda what, done, total: None,
) -> Manifest:
    """Export the graphs `features`, `support` and `match`, check them, and write a bundle.

    The compiled kernels that resize frames and draw masks on a GPU are added if they exist or nvcc
    can make them, because a device that builds its own engines may have no nvcc.

    Args:
        model: the network; it is not changed. Unless `model.trained`, the bundle records that its
            masks are meaningless.
        out: the bundle's folder; an existing bundle is replaced once the new one is complete.
        sizes: (height, width) of the network's input, the default size first.
        lowerings: forms of the center-pivot convolution, the default first. CPUs run "packed" if
            it is exported; engines are built from the others.
        correlations: "native" operations, or a node for the correlation "plugin", the default
            first. Only the conv2d lowering has a plugin form. With "plugin", the compiled
            correlation kernels are added if they exist or nvcc can make them.
        precisions: fp32, fp16 or both, so that a device without onnx can build engines of either.
            (INT8 needs data: `calibrate` adds it.)
        resize: how photographs are resized to the input size, "stretch" or "letterbox"; a query's
            margins then count as background in self-support.
        command: the command line to record; "" for none.
        progress: called before each step.

    Returns:
        the manifest, with the parity figures.

    Warns:
        HSNetWarning: nvcc is there but failed.

    Raises:
        InputError: an unsupported size, lowering, correlation, precision or resize policy.
        ExportError: an exported graph is invalid or inaccurate in some precision. Nothing is
            written.
        BundleError: `out` holds something other than a bundle.
    """
    sizes, lowerings = tuple(dict.fromkeys(sizes)), tuple(dict.fromkeys(lowerings))
    correlations, precisions = (tuple(dict.fromkeys(x)) for x in (correlations, precisions))
    _check_arguments(sizes, lowerings, correlations, precisions, resize)
    forms = [
        (lowering, correlation)
        for lowering in lowerings
        for correlation in correlations
        if correlation == "native" or lowering == "conv2d"
        if lowering != "packed" or "fp32" in precisions
    ]
    facts = Model(
        backbone=model.name,
        weights_sha256=weights_sha256(model),
        trained=model.trained,
        layers=_three(model.backbone.layers),
        channels=_three(model.backbone.channels),
        contrast=_weight(model.contrast),
        self_support=_weight(model.self_support),
    )
    judged = sum(1 if lowering == "packed" else len({"fp32", *precisions}) for lowering, _ in forms)
    total = len(sizes) * (3 + len(forms) + judged) + ("plugin" in correlations) + 1
    steps = _Steps(progress, total)
    with write_bundle(out) as writer:
        if "plugin" in correlations:
            steps.now("kernels of the correlation plugin")
            kernels = compiled_kernels()
            if kernels is not None:
                writer.add(KERNELS_NAME, kernels)
        graphs: list[GraphFile] = []
        figures: list[ParityFigure] = []
        goldens: list[GoldenFile] = []
        for size in sizes:
            new = GraphFiles(writer, facts, size, precisions, packing_of(model, size), graphs)
            steps.now(f"features {new.at}")
            features = new.add("features", "", export_features(model, size, new.props))
            steps.now(f"support {new.at}")
            support = new.add("support", "", export_support(model, size, new.props))
            steps.now(f"PyTorch's answers {new.at}")
            reference = Reference(model, size)
            for lowering, correlation in forms:
                steps.now(f"match {new.at} {lowering} {correlation}")
                exported = export_match(model, size, lowering, new.props, correlation)
                match = new.add("match", lowering, exported, correlation)
                taking = taking_columns if correlation == "plugin" else None
                if lowering == "packed":
                    taking = partial(taking_packed, packing=new.packing)
                for precision in match:
                    steps.now(f"parity {new.at} {lowering} {correlation} {precision}")
                    three = [graph[precision] for graph in (features, support, match)]
                    figures += check_parity(
                        reference, precision, (lowering, correlation), three, new.grows, taking
                    )
            file = writer.add(f"golden/{new.at}.npz", golden(reference))
            bounds = {precision: TOLERANCE[precision] for precision in precisions}
            goldens.append(GoldenFile(size=size, file=file, tolerance=bounds))
        steps.now("kernels that resize frames and draw masks")
        frames = compile_frame_kernels(warn)
        if frames is not None:
            writer.add(bundled_name(), frames)
        manifest = Manifest(
            model=facts,
            preprocessing=Preprocessing(resize=resize),
            sizes=sizes,
            graphs=tuple(graphs),
            golden=tuple(goldens),
            parity=tuple(figure for figure in figures if figure.precision in precisions),
            created_by=f"hsnet-trt {__version__}",
            present_from=model.present_from,
            refine=model.refine,
            commands=(command,) if command else (),
        )
        writer.finish(manifest)
    return dataclasses.replace(manifest, files=writer.files)


class _Steps:
    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.done, self.total = progress, 0, total

    def now(self, what: str) -> None:
        self.progress(what, self.done, self.total)
        self.done += 1


def _check_arguments(
    sizes: tuple[Grid, ...],
    lowerings: tuple[str, ...],
    correlations: tuple[str, ...],
    precisions: tuple[str, ...],
    resize: str,
) -> None:
    for size in sizes:
        if not all(SMALLEST <= extent <= LARGEST for extent in size):
            raise InputError(
                "the network cannot be exported at this size",
                expected=f"{SMALLEST} to {LARGEST} pixels a side",
                found=f"{size[0]}x{size[1]}",
                fix="400 is what the paper uses",
            )
    if not sizes:
        raise InputError("no size was given", expected="one at least")
    for what, names, known in (
        ("lowering", lowerings, FORMS),
        ("correlation", correlations, CORRELATIONS),
        ("precision", precisions, EXPORT_PRECISIONS),
        ("resize policy", (resize,), ("stretch", "letterbox")),
    ):
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise InputError(
                f"there is no such {what}" if unknown else f"no {what} was given",
                expected=" or ".join(known),
                found=", ".join(unknown) or None,
                fix="INT8 is added by `hsnet-trt calibrate`" if "int8" in unknown else None,
            )
    if lowerings == (CPU_LOWERING,) and "fp32" not in precisions:
        raise InputError(
            "the packed lowering is for CPUs, which run it in fp32",
            expected="--precision fp32, alone or beside fp16",
            found=f"--precision {' --precision '.join(precisions)}",
            fix="add --precision fp32, or another --lowering",
        )
    if "plugin" in correlations and "conv2d" not in lowerings:
        raise InputError(
            "the correlation plugin writes what the conv2d lowering reads, and no other",
            expected="--lowering conv2d, alone or beside others",
            found=f"--lowering {' --lowering '.join(lowerings)}",
            fix="add --lowering conv2d, or leave out --correlation plugin",
        )


def _weight(part: BackgroundContrast | SelfSupport | None) -> float:
    return 0.0 if part is None else float(part.weight.detach())


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third
