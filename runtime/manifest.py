"""The manifest of a bundle (`bundle.json`): what its files are, made for what, and their hashes.

It is the only contract between the build host and the edge.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hsnet_trt.errors import BundleError

FORMAT_VERSION = 1

Record = TypeVar("Record")


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output. Dynamic dimensions are named: N images, B queries, S supports."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Growth:
    """A quantity that grows with the batch: `constant + a*B + b*S + c*B*S`.

    The images N of `features` count as queries, those of `support` as supports.
    """

    constant: int = 0
    per_query: int = 0
    per_support: int = 0
    per_pair: int = 0

    def at(self, queries: int, supports: int) -> int:
        """The quantity for so many queries and supports."""
        return (
            self.constant
            + self.per_query * queries
            + self.per_support * supports
            + self.per_pair * queries * supports
        )


@dataclass(frozen=True)
class Variant:
    """Which form of which graph: the key that ties a graph to the engines built from it."""

    graph: str  # features | support | match
    size: tuple[int, int]  # height, width of the network's input
    precision: str  # fp32 | fp16 | int8
    lowering: str  # conv2d | conv3d
    correlation: str  # native | plugin


@dataclass(frozen=True)
class GraphFile:
    """An ONNX graph and what it asks of a machine."""

    variant: Variant
    file: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    largest_tensor: Growth  # elements
    activation_bytes: Growth  # estimated peak
    # The same without the correlation op's function, for TensorRT below 10.15 and the plugin.
    bare: str | None = None


@dataclass(frozen=True)
class ProfileRange:
    """The least, the expected and the largest value of a dynamic dimension."""

    least: int
    expected: int
    most: int


@dataclass(frozen=True)
class EngineFile:
    """A serialised TensorRT engine: native code, read only when its hash is right."""

    variant: Variant
    file: str
    target: str
    flavour: str  # tensorrt | tensorrt_rtx
    version: str
    compute_capabilities: tuple[str, ...]  # "8.9"; ("portable",) for every card the flavour serves
    platform: str  # "linux-x86_64"
    profile: dict[str, ProfileRange]  # by the name of the dynamic dimension
    build_seconds: float
    activation_bytes: int | None = None  # what the builder reported, where it did
    version_compatible: bool = False  # it runs with later minor versions of its TensorRT too
    plugin: str | None = None  # the correlation plugin's file: a library, or compiled kernels


@dataclass(frozen=True)
class GoldenFile:
    """Inputs and outputs of the PyTorch model, to verify a bundle where no checkpoint is.

    `tolerance` bounds max|difference| of the logits over their standard deviation, by precision.
    """

    size: tuple[int, int]
    file: str
    tolerance: dict[str, float]


@dataclass(frozen=True)
class ParityFigure:
    """How far an exported form lay from PyTorch when it was exported (max|difference| of logits).

    Of a run with so many queries and supports; in float64 only its first pair is compared.
    """

    size: tuple[int, int]
    precision: str
    lowering: str
    against: str  # "torch-float32" | "torch-float64"
    queries: int
    supports: int
    max_difference: float
    logits_std: float
    correlation: str = "native"


@dataclass(frozen=True)
class Model:
    """The network that the graphs were exported from."""

    backbone: str
    weights_sha256: str
    trained: bool  # False: random weights, the masks show the pipeline and not the model
    layers: tuple[int, int, int]  # feature layers of level 2, 3, 4
    channels: tuple[int, int, int]


@dataclass(frozen=True)
class Preprocessing:
    """From a photograph to the network's input: RGB in [0,1], then `(x - mean) / std`."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: str = "stretch"  # stretch | letterbox


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: its SHA-256 and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """All that `bundle.json` says."""

    model: Model
    preprocessing: Preprocessing
    sizes: tuple[tuple[int, int], ...]  # height, width; the first is the default
    graphs: tuple[GraphFile, ...]
    engines: tuple[EngineFile, ...] = ()
    golden: tuple[GoldenFile, ...] = ()
    parity: tuple[ParityFigure, ...] = ()
    files: dict[str, FileRecord] = field(default_factory=dict)
    created_by: str = ""
    commands: tuple[str, ...] = ()  # what made the bundle, oldest first
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The manifest as JSON text, one key a line."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest; every field's type is checked.

        Raises:
            BundleError: not JSON, of a newer format version, or a field is missing or mis-typed.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(
                "bundle.json is not JSON", found=error, fix="export the bundle again"
            ) from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            raise BundleError(
                "the bundle has another format version",
                expected=FORMAT_VERSION,
                found=version,
                fix="upgrade hsnet-trt" if newer else "export the bundle again",
            )
        return _record(cls, data, "bundle.json")


def _record(kind: type[Record], data: Any, where: str) -> Record:
    """Build a dataclass from parsed JSON, checking names and types."""
    if not isinstance(data, dict):
        raise _mistyped(where, f"an object ({kind.__name__})", data)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    needed = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if needed - data.keys() or data.keys() - fields.keys():
        raise _mistyped(where, f"the keys {sorted(fields)}", sorted(data))
    hints = typing.get_type_hints(kind)
    return kind(
        **{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    )


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast("type[Any]", hint), value, where)
    if origin is types.UnionType:
        kinds = tuple(args)
        if isinstance(value, kinds) and not isinstance(value, bool):
            return value
    elif origin is tuple and isinstance(value, list):
        inner = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(inner) == len(value):
            return tuple(
                _value(h, v, f"{where}[{i}]")
                for i, (h, v) in enumerate(zip(inner, value, strict=True))
            )
    elif origin is dict and isinstance(value, dict):
        return {key: _value(args[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise _mistyped(where, getattr(hint, "__name__", None) or str(hint), value)


def _mistyped(where: str, expected: str, found: Any) -> BundleError:
    return BundleError(
        f"{where} is not as it should be",
        expected=expected,
        found=repr(found)[:200],
        fix="the manifest was edited or damaged: export the bundle again",
    )
