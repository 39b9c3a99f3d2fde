"""The child process that runs TensorRT, so that an abort of native code does not end the caller.

    python -m hsnet_trt.export.engines.worker job.json

It writes messages to standard output, one per line (`events.to_json`): progress, then `Done` or
`Failed`. TensorRT's log and anything native code prints go to standard error. It imports neither
torch nor onnx. It does not check the files of its job: the parent has checked their hashes.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsnet_trt.errors import HSNetError
from hsnet_trt.export.engines.events import Done, Failed, Message, to_json
from hsnet_trt.export.engines.layer_types import engine_types, wrong_types
from hsnet_trt.export.engines.log import Emit, make_log, make_monitor
from hsnet_trt.export.engines.options import COMPATIBILITY, BuilderOptions
from hsnet_trt.files import replacing
from hsnet_trt.trt_plugins.loading import load_plugin

CORRELATIONS = 3  # one for each level of the pyramid


@dataclass(frozen=True)
class Job:
    """One job of the child.

    `task` is "build" (from a graph to an engine), "parse" (a graph's layers) or "examine" (an
    engine's layers).
    """

    task: str
    flavour: str  # the Python package: tensorrt | tensorrt_rtx
    source: str  # path of the graph, or of the engine
    output: str = ""  # path of the engine that "build" writes
    shapes: dict[str, list[list[int]]] = field(default_factory=dict)  # input: min, opt, max
    architectures: list[str] = field(default_factory=list)  # "SM89"; RTX only, empty for portable
    options: BuilderOptions = field(default_factory=BuilderOptions)
    precision: str = ""  # to check the network against: fp32 | fp16; others are not checked
    plugin: str = ""  # path of the correlation plugin; empty for native operations
    bare: str = ""  # path of the graph without the op's function, see `_parse`

    def to_json(self) -> str:
        """The job as JSON text, for `from_json`."""
        return json.dumps(dataclasses.asdict(self), default=os.fspath)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job in a text that `to_json` wrote."""
        fields = json.loads(text)
        options = fields.pop("options")
        cache = options.pop("timing_cache")
        return cls(
            **fields,
            options=BuilderOptions(**options, timing_cache=Path(cache) if cache else None),
        )


class WorkerError(Exception):
    """A refusal by TensorRT, as a message for the user."""


def run(job: Job, emit: Emit) -> dict[str, Any]:
    """Run the job; returns a JSON-able result.

    Raises:
        WorkerError: TensorRT is missing, or refused the graph, an option or the build.
    """
    try:
        trt = importlib.import_module(job.flavour)
    except ImportError as error:
        raise WorkerError(f"the package {job.flavour} cannot be imported: {error}") from error
    log = make_log(trt, emit, job.options.verbose)
    tasks = {"build": _build, "parse": _parse_only, "examine": _examine}
    result = tasks[job.task](trt, job, log, emit)
    return {"version": str(trt.__version__), **result}


def _build(trt: Any, job: Job, log: Any, emit: Emit) -> dict[str, Any]:
    builder = trt.Builder(log)
    network, parser = _parse(trt, job, log, builder)
    layers = _describe_network(network)
    wrong = wrong_types(layers, job.precision)
    if wrong:
        raise WorkerError(
            f"the graph was exported as {job.precision}, but was parsed as something else: {wrong}"
        )
    config = _configure(trt, job, builder, network)
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = make_monitor(trt, emit)
    cache = _load_timing_cache(trt, job, config)
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    del parser  # kept until now, because the network refers to the parser's weights
    if plan is None:
        raise WorkerError("the builder refused the network")
    with Path(job.output).open("wb") as stream:
        stream.write(memoryview(plan))
    if cache is not None and job.options.timing_cache:
        _save_timing_cache(config, job.options.timing_cache)
    return {"seconds": seconds, "memory": dict(log.memory), **layers}


def _parse_only(trt: Any, job: Job, log: Any, emit: Emit) -> dict[str, Any]:
    del emit
    builder = trt.Builder(log)
    network, parser = _parse(trt, job, log, builder)
    layers = _describe_network(network)
    del network, parser
    return layers


def _examine(trt: Any, job: Job, log: Any, emit: Emit) -> dict[str, Any]:
    """A deserialised engine's layers, memory and profiles. Needs a GPU."""
    del emit
    if job.plugin:
        _load_plugin(trt, Path(job.plugin))
    engine = trt.Runtime(log).deserialize_cuda_engine(Path(job.source).read_bytes())
    if engine is None:
        raise WorkerError("the engine cannot be deserialised here")
    inspector = engine.create_engine_inspector()
    information = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    # TensorRT 10.1 added `_v2`, TensorRT 11 removed `device_memory_size`.
    size = getattr(engine, "device_memory_size_v2", None)
    layers = json.loads(information) if information else None
    return {
        "layer_count": engine.num_layers,
        "types": engine_types(layers),
        "device_memory": engine.device_memory_size if size is None else size,
        "profiles": engine.num_optimization_profiles,
        "information": layers,
    }


def _parse(trt: Any, job: Job, log: Any, builder: Any) -> tuple[Any, Any]:
    flags = 0
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if typed is not None:  # bit 1 in TensorRT 10, bit 0 in 11 and RTX
        flags = 1 << int(typed)
    source = job.source
    if job.plugin:
        _load_plugin(trt, Path(job.plugin))
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if job.plugin:
        # TensorRT prefers a function in the graph to a plugin of that name. A flag reverses this in
        # 10.15 and later and in RTX; for earlier versions the graph must not hold the function.
        override = getattr(trt.OnnxParserFlag, "ENABLE_PLUGIN_OVERRIDE", None)
        if override is None:
            source = job.bare
        else:
            parser.set_flag(override)
    if not parser.parse_from_file(source):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise WorkerError(f"the parser refused the graph: {'; '.join(errors) or 'no reason given'}")
    if job.plugin:
        _check_plugins(network)
    return network, parser


def _load_plugin(trt: Any, path: Path) -> None:
    try:
        load_plugin(trt, path.name, path.read_bytes())
    except HSNetError as error:
        raise WorkerError(str(error)) from error


def _check_plugins(network: Any) -> None:
    kinds = [network.get_layer(index).type.name for index in range(network.num_layers)]
    found = kinds.count("PLUGIN_V3")
    if found != CORRELATIONS:
        raise WorkerError(
            f"{found} layers of the parsed network are plugins, {CORRELATIONS} were expected: the "
            "graph is not one that was exported with --correlation plugin"
        )


def _configure(trt: Any, job: Job, builder: Any, network: Any) -> Any:
    config, options = builder.create_builder_config(), job.options
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt, "ProfilingVerbosity"):  # so that the engine's layers can be inspected
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        name = COMPATIBILITY[options.hardware_compatible]
        level = getattr(trt.HardwareCompatibilityLevel, name, None)
        if level is None:
            raise WorkerError(f"TensorRT {trt.__version__} has no compatibility level {name}")
        config.hardware_compatibility_level = level
    if job.architectures:
        config.num_compute_capabilities = len(job.architectures)
        for index, name in enumerate(job.architectures):
            capability = getattr(trt.ComputeCapability, name, None)
            if capability is None or not config.set_compute_capability(capability, index):
                raise WorkerError(f"{job.flavour} {trt.__version__} cannot build for {name}")
    _add_profile(job, builder, network, config)
    return config


def _add_profile(job: Job, builder: Any, network: Any, config: Any) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    names = {tensor.name for tensor in inputs}
    if names != job.shapes.keys():
        raise WorkerError(
            f"the graph's inputs are {sorted(names)}, the bundle has {sorted(job.shapes)}"
        )
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        low, opt, high = (tuple(shape) for shape in job.shapes[tensor.name])
        own = tuple(tensor.shape)
        if len(own) != len(high) or any(a not in (-1, b) for a, b in zip(own, high, strict=True)):
            raise WorkerError(f"{tensor.name} is {own} in the graph, the bundle has up to {high}")
        profile.set_shape(tensor.name, low, opt, high)
    if config.add_optimization_profile(profile) < 0:
        raise WorkerError("the optimisation profile was refused")


def _describe_network(network: Any) -> dict[str, Any]:
    """The parsed network's layers by type and output precision, and its inputs and outputs."""
    counts: Counter[tuple[str, str]] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        precision = layer.get_output(0).dtype.name if layer.num_outputs else "NONE"
        counts[layer.type.name, precision] += 1

    def tensors(count: int, get: Callable[[int], Any]) -> list[dict[str, Any]]:
        found = (get(index) for index in range(count))
        return [{"name": t.name, "dtype": t.dtype.name, "shape": list(t.shape)} for t in found]

    return {
        "layers": [{"type": t, "precision": p, "count": n} for (t, p), n in sorted(counts.items())],
        "inputs": tensors(network.num_inputs, network.get_input),
        "outputs": tensors(network.num_outputs, network.get_output),
    }


def _load_timing_cache(trt: Any, job: Job, config: Any) -> Any:
    path = job.options.timing_cache
    if path is None:
        return None
    if not hasattr(config, "create_timing_cache"):
        raise WorkerError(f"{job.flavour} {trt.__version__} has no timing cache")
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise WorkerError(
            f"the timing cache {path} was made by another TensorRT or for another GPU; remove it"
        )
    return cache


def _save_timing_cache(config: Any, path: Path) -> None:
    with replacing(path) as scratch:
        scratch.write_bytes(memoryview(config.get_timing_cache().serialize()))


def main(arguments: list[str]) -> int:
    """Run the job in the file named on the command line; returns the exit code."""
    # Native code may print to descriptor 1: messages go to a copy of it, and 1 becomes stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def emit(message: Message) -> None:
        channel.write(to_json(message) + "\n")

    try:
        job = Job.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
        emit(Done(run(job, emit)))
    except BrokenPipeError:  # the parent has ended
        return 1
    except (WorkerError, OSError, MemoryError) as error:
        path = getattr(error, "filename", None)
        emit(
            Failed(
                str(error) or type(error).__name__,
                getattr(error, "errno", None),
                None if path is None else os.fsdecode(path),
            )
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
