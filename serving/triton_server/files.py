"""Choosing a platform, and the bundle's files that serve each graph on it under Triton."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsnet_trt.errors import BundleError, ExportError, InputError
from hsnet_trt.runtime.backends import choose_graphs
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, GraphFile
from hsnet_trt.runtime.matching.graphs import GRAPHS
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.ort.limits import cpu_limits
from hsnet_trt.trt_plugins.loading import is_library

PLATFORMS = ("tensorrt", "onnxruntime_cuda", "onnxruntime", "python")
MODEL_FILES = {
    "tensorrt": "model.plan",
    "onnxruntime_cuda": "model.onnx",
    "onnxruntime": "model.onnx",
    "python": "model.onnx",
}
_PRECISIONS = ("fp16", "fp32", "int8")  # preference, as on any GPU; see `runtime.backends`
_OF_SUPPORT = ("fp32", "fp16", "int8")  # the same for `support` if it lacks the others' precision


@dataclass(frozen=True)
class Served:
    """The graphs and files for one platform.

    Attributes:
        platform: one of `PLATFORMS`.
        graphs: names, types and shapes of features, support and match.
        files: for each graph, contents by file name.
        capabilities: for each graph, file names by compute capability ("8.9"); empty unless the
            platform is tensorrt.
        limits: the largest batches of one call.
        versions: the TensorRT version of the engines; empty for other platforms.
        plugin: the correlation plugin's library, if an engine needs it.
    """

    platform: str
    graphs: dict[str, GraphFile]
    files: dict[str, dict[str, bytes]]
    capabilities: dict[str, dict[str, str]]
    limits: Limits
    versions: tuple[str, ...] = ()
    plugin: bytes | None = None


def choose_platform(
    bundles: Sequence[Bundle],
    size: tuple[int, int],
    precision: str | None,
    platforms: Sequence[str],
) -> Served:
    """The first of `platforms` that the bundles hold files for.

    Raises:
        InputError: an unknown platform, or none.
        ExportError: none can be served; gives the reason for each.
        BundleError: a file was altered.
    """
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise InputError(
            "there is no such platform", expected=", ".join(PLATFORMS), found=", ".join(unknown)
        )
    reasons = []
    for platform in platforms:
        try:
            if platform == "tensorrt":
                return _engines(bundles, size, precision)
            return _onnx(bundles[0], size, precision, platform)
        except (ExportError, BundleError) as error:
            if isinstance(error, BundleError) and "altered" in error.summary:
                raise
            reasons.append(f"{platform}: {error.summary}")
    raise ExportError(
        "the bundle holds nothing that Triton could serve on the platforms asked for",
        expected=f"files for {' or '.join(platforms)} at {size[0]}x{size[1]}",
        found="; ".join(reasons),
        fix="build engines with TensorRT (hsnet-trt build-engine BUNDLE --target this), or add "
        f"another platform: --platforms {','.join(PLATFORMS)}",
    )


def _onnx(bundle: Bundle, size: tuple[int, int], precision: str | None, platform: str) -> Served:
    # Packed supports are the fastest on a CPU, but `onnxruntime` may run on a GPU.
    device = "gpu" if platform == "onnxruntime_cuda" else "cpu"
    graphs = choose_graphs(bundle, size, precision, packed=platform == "python", device=device)
    return Served(
        platform,
        graphs,
        {name: {MODEL_FILES[platform]: bundle.read(graphs[name].file)} for name in GRAPHS},
        {name: {} for name in GRAPHS},
        cpu_limits(graphs),
    )


def _engines(bundles: Sequence[Bundle], size: tuple[int, int], precision: str | None) -> Served:
    """Engines of every bundle, one set of three for each compute capability."""
    sets: dict[str, dict[str, tuple[Bundle, EngineFile]]] = {}
    for wanted in [precision] if precision else _PRECISIONS:
        sets = _sets(bundles, size, wanted)
        if sets:
            break
    if not sets:
        raise ExportError(
            f"the bundles hold no three TensorRT engines at {size[0]}x{size[1]} for one GPU "
            "(engines of TensorRT for RTX are not for Triton)"
        )
    versions = {engine.version for s in sets.values() for _, engine in s.values()}
    if len(versions) > 1:
        raise ExportError(
            "the engines were built with different versions of TensorRT, and a server has one: "
            + ", ".join(sorted(versions))
        )
    files: dict[str, dict[str, bytes]] = {name: {} for name in GRAPHS}
    capabilities: dict[str, dict[str, str]] = {name: {} for name in GRAPHS}
    for capability, chosen in sorted(sets.items()):
        for name, (bundle, engine) in chosen.items():
            file = "model.plan" if len(sets) == 1 else f"model_sm{capability.replace('.', '')}.plan"
            files[name][file] = bundle.read(engine.file)
            capabilities[name][capability] = file
    by_capability = {cc: _graphs(chosen, size) for cc, chosen in sorted(sets.items())}
    first, graphs = next(iter(by_capability.items()))
    for capability, others in by_capability.items():
        differing = [name for name in GRAPHS if _shape(others[name]) != _shape(graphs[name])]
        if differing:
            raise ExportError(
                f"the engines of compute capability {first} and {capability} take different "
                f"tensors in {', '.join(differing)}, and a model of Triton has one configuration: "
                "build all of them of one lowering, correlation and precision, support included"
            )
    engines = [engine for s in sets.values() for _, engine in s.values()]
    return Served(
        "tensorrt",
        graphs,
        files,
        capabilities,
        _engine_limits(engines),
        tuple(versions),
        _plugin([pair for s in sets.values() for pair in s.values()]),
    )


def _graphs(
    chosen: dict[str, tuple[Bundle, EngineFile]], size: tuple[int, int]
) -> dict[str, GraphFile]:
    """The graphs of which three engines were built."""
    graphs = {}
    for name in GRAPHS:
        bundle, engine = chosen[name]
        v = engine.variant
        graphs[name] = bundle.graph(
            name, size, v.precision, lowering=v.lowering, correlation=v.correlation
        )
    return graphs


def _shape(graph: GraphFile) -> Any:
    return graph.inputs, graph.outputs


def _sets(
    bundles: Sequence[Bundle], size: tuple[int, int], precision: str
) -> dict[str, dict[str, tuple[Bundle, EngineFile]]]:
    """By compute capability, the three engines; the first bundle that has them wins."""
    found: dict[str, dict[str, tuple[Bundle, EngineFile]]] = {}
    for bundle in bundles:
        own: dict[str, dict[str, tuple[Bundle, EngineFile]]] = {}
        for engine in bundle.manifest.engines:
            v = engine.variant
            # `support` has no weights, so one of another precision will do.
            fits = v.precision == precision or v.graph == "support"
            if engine.flavour != "tensorrt" or v.size != size or not fits:
                continue
            order = (precision, *_OF_SUPPORT)
            for capability in engine.compute_capabilities:
                held = own.setdefault(capability, {}).get(v.graph)
                if held is None or order.index(v.precision) <= order.index(
                    held[1].variant.precision
                ):
                    own[capability][v.graph] = (bundle, engine)
        for capability, chosen in own.items():
            if len(chosen) == len(GRAPHS):
                found.setdefault(capability, chosen)
    return found


def _engine_limits(engines: Sequence[EngineFile]) -> Limits:
    def most(graph: str, dimension: str) -> int:
        return min(e.profile[dimension].most for e in engines if e.variant.graph == graph)

    return Limits(
        images=most("features", "N"),
        shots=most("support", "S"),
        queries=most("match", "B"),
        supports=most("match", "S"),
    )


def _plugin(pairs: Sequence[tuple[Bundle, EngineFile]]) -> bytes | None:
    named = [(bundle, engine.plugin) for bundle, engine in pairs if engine.plugin is not None]
    for bundle, name in named:
        content = bundle.read(name)
        if is_library(content):
            return content  # any library of the op's version runs every engine with the op
    if named:
        raise ExportError(
            "the engines need the correlation plugin as a library, and the bundle holds its "
            "compiled kernels only: build them with --plugin libhsnet_correlation.so"
        )
    return None


def same_network(bundles: Sequence[Bundle], size: tuple[int, int]) -> None:
    """Check that all bundles hold the same network, at that size.

    Raises:
        InputError: they differ in weights, backbone or preprocessing, or one lacks the size.
    """
    first = bundles[0].manifest
    for other in bundles[1:]:
        m = other.manifest
        pairs = {
            "weights": (first.model.weights_sha256, m.model.weights_sha256),
            "backbone": (first.model.backbone, m.model.backbone),
            "preprocessing": tuple(
                dataclasses.astuple(p) for p in (first.preprocessing, m.preprocessing)
            ),
        }
        differing = [name for name, (a, b) in pairs.items() if a != b]
        if differing or size not in m.sizes:
            raise InputError(
                f"{other.path} is of another network than {bundles[0].path}",
                expected=f"bundles of one checkpoint, all exported at {size[0]}x{size[1]}",
                found="another " + ", ".join(differing or ["size"]),
                fix="build every bundle's engines from the same export",
            )
