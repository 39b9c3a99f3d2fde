"""Choosing and opening the backend that runs a bundle on this machine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import TypeVar

from hsnet_trt.errors import BackendError, BundleError, InputError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import find_driver, platform_tag
from hsnet_trt.runtime.engines.compatibility import Host, best_fit, remedy
from hsnet_trt.runtime.matching.graphs import GRAPHS
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.ort.cuda import USUAL, CudaChoice, check_cuda
from hsnet_trt.runtime.ort.runner import OnnxRuntimeRunner, load_onnxruntime

_log = logging.getLogger("hsnet_trt")
Entry = TypeVar("Entry", EngineFile, GraphFile)

TENSORRT = ("tensorrt", "tensorrt_rtx")
BACKENDS = (*TENSORRT, "onnxruntime_cuda", "onnxruntime")  # the best first

# Preference for `precision=None`: on GPUs FP16 is faster than FP32, on CPUs it is not. INT8 comes
# last because its loss of accuracy should be a deliberate choice.
_PREFERENCE = {"gpu": ("fp16", "fp32", "int8"), "cpu": ("fp32", "fp16", "int8")}
CPU_LOWERING = "packed"  # the lowering for CPUs
_BUILD = "build engines: hsnet-trt build-engine BUNDLE --target this"


def open_runner(
    bundle: Bundle,
    size: tuple[int, int],
    backend: str = "auto",
    precision: str | None = None,
    lowering: str | None = None,
    cuda: CudaChoice = USUAL,
) -> tuple[Runner, str]:
    """Open the requested backend, or the best one that works here.

    Args:
        bundle: the opened bundle.
        size: height and width of the network's input, one of the bundle's.
        backend: "auto", or one of `BACKENDS`.
        precision: fp32, fp16 or int8; None for the first that the bundle holds of fp16, fp32, int8
            on a GPU, and of fp32, fp16, int8 on a CPU.
        lowering: of `match`: conv2d, conv3d or packed; None for packed on a CPU if the bundle holds
            it, else the first exported.
        cuda: options of ONNX Runtime on a GPU; other backends ignore them.

    Returns:
        The runner, and in words why it was chosen.

    Raises:
        InputError: no such backend or precision, or a memory limit that is not positive.
        BackendError: the backend cannot run here; with "auto", none can.
        BundleError: a file was altered, also with "auto"; or the requested graphs for the CPU are
            missing.
    """
    if backend not in ("auto", *BACKENDS):
        raise InputError(
            "there is no such backend",
            expected=f"auto, {', '.join(BACKENDS)}",
            found=repr(backend),
            fix="leave it out for the best that works here",
        )
    if precision not in (None, *_PREFERENCE["cpu"]):
        raise InputError(
            "there is no such precision",
            expected=", ".join(_PREFERENCE["cpu"]),
            found=repr(precision),
            fix="leave it out for the best that the bundle holds",
        )
    if cuda.memory is not None and cuda.memory <= 0:
        raise InputError(
            "the limit of a GPU's memory is not one", expected="bytes, above 0", found=cuda.memory
        )
    if backend != "auto":
        return _open(bundle, size, backend, precision, lowering, cuda), "it was asked for"
    refusals = []
    for candidate in BACKENDS:
        try:
            runner = _open(bundle, size, candidate, precision, lowering, cuda)
        except BackendError as error:
            refusals.append(
                f"{candidate}: {error.summary}" + (f" ({error.found})" if error.found else "")
            )
            continue
        except BundleError:
            if refusals:
                _log.warning("not %s", "; not ".join(refusals))
            raise
        reason = (
            f"the best that works here; not {'; not '.join(refusals)}"
            if refusals
            else "the best one"
        )
        # Falling back to the CPU although there are engines or a GPU deserves a warning.
        fallen = candidate == "onnxruntime" and bool(bundle.manifest.engines or find_driver().gpus)
        _log.log(
            logging.WARNING if fallen else logging.INFO,
            "backend %s, %s, on %s: %s", candidate, runner.precision, runner.device, reason,
        )  # fmt: skip
        return runner, reason
    raise BackendError(
        "no backend can run this bundle here",
        found="; ".join(refusals),
        fix="see `hsnet-trt doctor`",
    )


def _open(
    bundle: Bundle,
    size: tuple[int, int],
    backend: str,
    precision: str | None,
    lowering: str | None,
    cuda: CudaChoice,
) -> Runner:
    if backend == "onnxruntime":
        graphs = choose_graphs(bundle, size, precision, packed=True, lowering=lowering)
        return OnnxRuntimeRunner(bundle, graphs)
    if backend == "onnxruntime_cuda":
        return _open_cuda(bundle, size, precision, lowering, cuda)
    engines = [
        e
        for e in bundle.manifest.engines
        if e.flavour == backend and e.variant.size == size and _lowered(e, lowering)
    ]
    if not engines:
        form = f" lowered as {lowering}" if lowering else ""
        raise BackendError(
            f"the bundle holds no engine for {backend} at {size[0]}x{size[1]}{form}", fix=_BUILD
        )
    return _open_engines(bundle, engines, backend, precision)


def _lowered(entry: EngineFile | GraphFile, lowering: str | None) -> bool:
    """Whether an entry has that lowering; features and support have none and always fit."""
    return lowering is None or entry.variant.lowering in ("", lowering)


def _open_cuda(
    bundle: Bundle,
    size: tuple[int, int],
    precision: str | None,
    lowering: str | None,
    cuda: CudaChoice,
) -> Runner:
    try:
        graphs = choose_graphs(bundle, size, precision, device="gpu", lowering=lowering)
    except BundleError as error:  # the bundle may hold only engines, or graphs for CPUs
        raise BackendError(
            "the bundle holds no graphs for GPUs that are wanted",
            expected=error.expected,
            found=error.found,
            fix=error.fix,
        ) from error
    gpu = check_cuda(load_onnxruntime(), find_driver()).limited(cuda.memory)
    return OnnxRuntimeRunner(bundle, graphs, gpu, cuda.options)


def _open_engines(
    bundle: Bundle, engines: list[EngineFile], flavour: str, precision: str | None
) -> Runner:
    if not has(flavour):
        package = flavour.replace("_", "-")
        raise BackendError(
            f"{flavour} is not installed", fix=f"install it: python -m pip install {package}"
        )
    if not has("pycuda") and not has("cuda.bindings"):
        raise BackendError(
            "neither pycuda nor cuda-bindings is installed",
            fix="install one: python -m pip install pycuda (or cuda-bindings)",
        )
    driver = find_driver()
    if not driver.gpus:
        raise BackendError(
            f"there is no GPU to run {flavour}",
            found=driver.problem,
            fix="see `hsnet-trt doctor`, or use the backend onnxruntime, which runs on the CPU",
        )
    try:
        version = importlib.import_module(flavour).__version__
    except (ImportError, OSError) as error:
        raise BackendError(
            f"{flavour} cannot be loaded",
            found=error,
            fix="see `hsnet-trt doctor`, or use the backend onnxruntime, which runs on the CPU",
        ) from error
    host = Host(flavour, version, driver.gpus[0].compute_capability, platform_tag())
    reasons: list[str] = []

    def pick(graph: str, of: str) -> EngineFile | None:
        found, why = best_fit(
            (e for e in engines if (e.variant.graph, e.variant.precision) == (graph, of)), host
        )
        reasons.extend(why)
        return found

    chosen = _first_complete("gpu", precision, pick)
    if chosen is None:
        raise BackendError(
            f"none of the bundle's engines for {flavour} fits this machine",
            expected=f"{flavour} {version}, compute capability {host.compute_capability}, "
            f"{host.platform}",
            found="; ".join(dict.fromkeys(reasons))
            or f"none of precision {precision or 'fp16 or fp32'}",
            fix=remedy(flavour, host.compute_capability),
        )
    from hsnet_trt.runtime.engines.runner import TensorRTRunner

    return TensorRTRunner(bundle, chosen)


def choose_graphs(
    bundle: Bundle,
    size: tuple[int, int],
    precision: str | None,
    *,
    packed: bool = False,
    device: str = "cpu",
    lowering: str | None = None,
) -> dict[str, GraphFile]:
    """The three ONNX graphs to run: the first exported of each, native forms before plugin forms.

    Graphs for the plugin contain the op as native ops too, and run without it.

    Args:
        bundle: the opened bundle.
        size: height and width of the network's input.
        precision: as for `open_runner`.
        packed: whether `match` may take packed supports. That form is then preferred, since it is
            the fastest on a CPU, and so are INT8 `features` of that form.
        device: "cpu" or "gpu"; decides the order of preference if `precision` is None.
        lowering: as for `open_runner`.

    Returns:
        The entries of features, support and match, by name.

    Raises:
        BundleError: the bundle does not hold all three in that size and precision.
    """
    best_first = sorted(
        (
            g
            for g in bundle.manifest.graphs
            if (packed or g.variant.lowering != CPU_LOWERING) and _lowered(g, lowering)
        ),
        key=lambda g: (g.variant.lowering != CPU_LOWERING, g.variant.correlation == "plugin"),
    )

    def pick(graph: str, of: str) -> GraphFile | None:
        for entry in best_first:
            v = entry.variant
            if (v.graph, v.size, v.precision) == (graph, size, of):
                return entry
        return None

    chosen = _first_complete(device, precision, pick)
    if chosen is None:
        raise BundleError(
            "the bundle does not hold the graphs that are wanted",
            expected=f"features, support and match at {size[0]}x{size[1]}, "
            f"{precision or 'any precision'}{f', lowered as {lowering}' if lowering else ''}",
            found=", ".join(
                sorted(
                    {
                        " ".join(filter(None, (v.graph, v.precision, v.lowering)))
                        for v in (g.variant for g in bundle.manifest.graphs)
                    }
                )
            ),
            fix="add INT8 graphs: hsnet-trt calibrate BUNDLE"
            + (f" --lowering {lowering}" if lowering else "")
            if precision == "int8"
            else "leave precision and lowering out, or export again with those that are missing",
        )
    return chosen


def _first_complete(
    device: str, precision: str | None, pick: Callable[[str, str], Entry | None]
) -> dict[str, Entry] | None:
    """All three graphs in the first precision that has them.

    `support` has no weights, so one of another precision will do.
    """
    for wanted in [precision] if precision else _PREFERENCE[device]:
        chosen = {graph: pick(graph, wanted) for graph in GRAPHS}
        for other in _PREFERENCE["cpu"]:
            if chosen["support"] is None:
                chosen["support"] = pick("support", other)
        complete = {graph: entry for graph, entry in chosen.items() if entry is not None}
        if len(complete) == len(GRAPHS):
            return complete
    return None
