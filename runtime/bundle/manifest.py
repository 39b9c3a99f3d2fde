"""The manifest of a bundle (`bundle.json`): its files, their purpose, and their hashes.

It is the only contract between the build host and the edge.

Compiled kernels are under `plugins/`: those of the correlation plugin, which an engine's entry
names, and those that resize frames and draw masks, whose name is
`runtime.frames.frame_kernels.bundled_name`. Their hashes are in `files`, as those of all files that
are loaded.

Precisions. A bundle holds the graphs `features`, `support` and `match` in each precision that was
exported: `fp32` and `fp16` by `export`, `int8` by `calibrate`, which adds to an existing bundle
(`runtime.bundle.variants.add_variants`). Precision is part of the graphs, which are strongly typed;
a graph's entry gives the types of its inputs and outputs. Three rules hold for every precision:

- `features` and `match` are both present, and agree on the type of `f2`, `f3`, `f4`, which stay in
  place on a GPU. `support`, which has no weights, may be missing; another precision's is run.
- It has a `Tolerance` in the `GoldenFile` of each of its sizes; `verify` applies it on any backend.
- It has `ParityFigure`s, measured with `arithmetic`: ONNX Runtime on a CPU computes FP16 graphs in
  FP32, so FP16 is measured on graphs that round after every operation ("emulated").

`AccuracyFigure`s, where measured, give the accuracy of a precision on episodes. `build-engine
--precision best` chooses no precision that loses more than its budget, and no unmeasured INT8.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass, field
from typing import Annotated

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle.fields import (
    Count,
    Extent,
    FileName,
    Finite,
    Grid,
    Sha256,
    Shape,
    Spread,
)
from hsnet_trt.runtime.bundle.figures import AccuracyFigure, GoldenFile, ParityFigure
from hsnet_trt.runtime.bundle.schema import Rule, parse, read_record

FORMAT_VERSION = 2


def _starts_with_features(graph: GraphFile) -> bool:
    """Whether a `match` starts with the inputs f2, f3, f4 and their shapes; True for others."""
    return graph.variant.graph != "match" or all(
        tensor is not None
        and tensor.name == name
        and len(tensor.shape) == 4
        and all(isinstance(n, int) for n in tensor.shape[1:])
        for tensor, name in itertools.zip_longest(graph.inputs[:3], ("f2", "f3", "f4"))
    )


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output. Dynamic dimensions are named: N images, B queries, S supports.

    Of a packed `match`, also R columns and T windows of levels 2 to 4: R2, T2 and so on.
    """

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Growth:
    """A quantity that grows with the batch: `constant + a*B + b*S + c*B*S`.

    The images N of `features` count as queries, those of `support` as supports.
    """

    constant: Count = 0
    per_query: Count = 0
    per_support: Count = 0
    per_pair: Count = 0

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
    """The form of a graph: the key that links a graph to the engines built from it."""

    graph: Annotated[
        str, Rule("features, support or match", lambda s: s in ("features", "support", "match"))
    ]
    size: tuple[Extent, Extent]  # height, width of the network's input
    precision: str  # fp32 | fp16 | int8
    lowering: str  # conv2d | conv3d | packed; empty for graphs that have only one
    correlation: str  # native | plugin; empty for graphs other than match


@dataclass(frozen=True)
class PackedLevel:
    """The windows of a level's first support convolution, which a packed `match` gathers.

    The window of output y, x is centred on position `stride*y`, `stride*x` of the grid.
    """

    grid: Grid  # of the level's features
    kernel: Annotated[int, Rule("an odd number below 100", lambda n: 0 < n < 100 and n % 2 == 1)]
    stride: Extent


@dataclass(frozen=True)
class GraphFile:
    """An ONNX graph and its requirements."""

    variant: Variant
    file: FileName
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    largest_tensor: Growth  # elements
    activation_bytes: Growth  # estimated peak
    # Of the features of levels 2, 3, 4. Their rows are padded with zeros to a multiple of
    # `trt_plugins.sizes.ROW_UNIT`.
    grids: tuple[Grid, Grid, Grid]
    # The same graph without the correlation op's function, for the plugin in TensorRT below 10.15.
    bare: FileName | None = None
    # Levels 2, 3 and 4 of a `match` that takes packed supports (`runtime.matching.packing`).
    packing: tuple[PackedLevel, ...] = ()


@dataclass(frozen=True)
class ProfileRange:
    """The minimum, optimum and maximum of a dynamic dimension (TensorRT's min, opt and max)."""

    least: Extent
    expected: Extent
    most: Extent


@dataclass(frozen=True)
class EngineFile:
    """A serialised TensorRT engine: native code, so it is used only if its hash is right."""

    variant: Variant
    file: FileName
    target: str
    flavour: str  # tensorrt | tensorrt_rtx
    version: str
    compute_capabilities: tuple[str, ...]  # "8.9"; ("portable",): see `engines.compatibility`
    platform: str  # "linux-x86_64"
    profile: dict[str, ProfileRange]  # by the name of the dynamic dimension
    build_seconds: float
    activation_bytes: int | None = None  # as the builder reported, if it did
    version_compatible: bool = False  # runs with later minor versions of its TensorRT too
    plugin: FileName | None = None  # the correlation plugin's file: a library, or compiled kernels

    @property
    def record(self) -> str:
        """The file that records how it was built: layers, I/O and memory, as JSON."""
        return self.file.removesuffix(".engine") + ".json"


@dataclass(frozen=True)
class Model:
    """The network that the graphs were exported from."""

    backbone: str
    weights_sha256: str
    trained: bool  # False for random weights, whose masks are meaningless
    layers: tuple[Extent, Extent, Extent]  # feature layers of level 2, 3, 4
    channels: tuple[Extent, Extent, Extent]
    # Weights of additions to the paper; with 0, the graphs do not contain them.
    contrast: Finite = 0.0  # background contrast
    self_support: Finite = 0.0  # the query's self-support


@dataclass(frozen=True)
class Preprocessing:
    """From a photograph to the network's input: RGB in [0,1], then `(x - mean) / std`."""

    mean: tuple[Finite, Finite, Finite] = (0.485, 0.456, 0.406)
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)
    resize: str = "stretch"  # stretch | letterbox


@dataclass(frozen=True)
class FileRecord:
    """A file's SHA-256 and its size in bytes."""

    sha256: Sha256
    bytes: Count


@dataclass(frozen=True)
class Manifest:
    """The content of `bundle.json`."""

    model: Model
    preprocessing: Preprocessing
    sizes: tuple[tuple[Extent, Extent], ...]  # height, width; the first is the default
    graphs: tuple[
        Annotated[
            GraphFile,
            Rule(
                "a match graph whose first inputs are f2, f3, f4 of shapes like [B, 4, 512, 2500]",
                _starts_with_features,
                lambda graph: [(tensor.name, *tensor.shape) for tensor in graph.inputs],
            ),
        ],
        ...,
    ]
    engines: tuple[EngineFile, ...] = ()
    golden: tuple[GoldenFile, ...] = ()
    parity: tuple[ParityFigure, ...] = ()
    accuracy: tuple[AccuracyFigure, ...] = ()
    files: dict[FileName, FileRecord] = field(default_factory=dict)
    created_by: str = ""
    # The score from which a class counts as present (`matching.presence`); 0 if not calibrated.
    present_from: Annotated[float, Rule("0 to 1", lambda x: 0 <= x <= 1)] = 0.0
    # Whether masks are refined along the picture's edges (`pictures.guided_filter`); not in the
    # paper.
    refine: bool = False
    commands: tuple[str, ...] = ()  # the commands that made the bundle, oldest first
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The manifest as JSON text, one key a line."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest; every field's type and value is checked.

        Raises:
            BundleError: not JSON, another format version, or an invalid field, which is named.
        """
        data = parse(text, "bundle.json")
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            raise BundleError(
                "the bundle has another format version",
                expected=FORMAT_VERSION,
                found=version,
                fix="upgrade hsnet-trt" if newer else "export the bundle again",
            )
        return read_record(cls, data, "bundle.json")
