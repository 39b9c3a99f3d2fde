"""What is quantised: a bundle's FP32 graphs at one size, and their layers."""

from __future__ import annotations

import hashlib

import onnx

from hsnet_trt.calibration.placement import QDQPlacement, place
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.matching.graphs import GRAPHS, names_of

QUANTIZED = ("features", "match")  # support has neither weights nor products

Grid = tuple[int, int]


class Subject:
    """A bundle's FP32 graphs at one size, and the layers that can be INT8."""

    def __init__(self, bundle: Bundle, size: Grid, lowering: str | None = None) -> None:
        """Read the graphs. The `packed` lowering, and thus its INT8 form, is for CPUs.

        Raises:
            BundleError: the bundle has no FP32 graphs of native ops at that size and lowering.
        """
        self.bundle, self.size = bundle, size
        self.files: dict[str, GraphFile] = {}
        self.graphs: dict[str, onnx.ModelProto] = {}
        self.hashes: dict[str, str] = {}
        for name in GRAPHS:
            self.files[name] = _graph(bundle, name, size, lowering)
            content = bundle.read(self.files[name].file)
            self.graphs[name] = onnx.load_model_from_string(content)
            self.hashes[name] = hashlib.sha256(content).hexdigest()
        self.placements: dict[str, QDQPlacement] = {
            name: place(name, self.graphs[name], results=self.for_cpu) for name in QUANTIZED
        }

    @property
    def for_cpu(self) -> bool:
        """Whether ONNX Runtime's integer kernels will run it, not TensorRT."""
        return bool(self.files["match"].packing)


def _graph(bundle: Bundle, name: str, size: Grid, lowering: str | None) -> GraphFile:
    """An FP32 graph; of `match` by default the first native lowering that is not packed."""
    if name != "match":
        return bundle.graph(name, size, "fp32", lowering="")
    inputs, _ = names_of("match", contrast=bool(bundle.manifest.model.contrast))
    plain = [
        entry.variant.lowering
        for entry in bundle.manifest.graphs
        if {tensor.name for tensor in entry.inputs} == set(inputs)
        and (entry.variant.size, entry.variant.correlation) == (size, "native")
    ]
    lowering = lowering or next(iter(plain), None)
    return bundle.graph(name, size, "fp32", lowering=lowering, correlation="native")
