"""The three graphs of a bundle as ONNX: `features`, `support` and `match`, for one size."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx
import torch
from polygraphy.backend.onnx import fold_constants
from polygraphy.logger import G_LOGGER
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hsnet_trt.errors import ExportError
from hsnet_trt.export.graphs.beyond_the_paper import add_contrast, add_self_support
from hsnet_trt.export.graphs.lowering import PYRAMID, Grid, interpolation, normalized, padded
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d
from hsnet_trt.export.graphs.lowering_packed import write_packed_match
from hsnet_trt.export.graphs.lowering_plugin import (
    CORRELATION_INPUTS,
    AfterCorrelation,
    put_correlations_before,
)
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.backends import CPU_LOWERING
from hsnet_trt.runtime.matching.graphs import FEATURES, INPUTS, OUTPUTS, SUPPORTS, names_of
from hsnet_trt.trt_plugins.sizes import DOMAIN, VERSION, row_length

OPSET = 18  # fully supported by TensorRT 10.3 and older ONNX Runtimes
IR_VERSION = 10  # the newest that these read
LOWERINGS: dict[str, type[MatchConv2d] | type[MatchConv3d]] = {
    "conv2d": MatchConv2d,
    "conv3d": MatchConv3d,
}
FORMS = (*LOWERINGS, CPU_LOWERING)  # of the center-pivot convolutions in `match`
CORRELATIONS = ("native", "plugin")


class Features(nn.Module):
    """`HSNet.features` with the batch-norms folded into the convolutions before them."""

    def __init__(self, model: HSNet) -> None:
        super().__init__()
        self.backbone = fold_batch_norms(copy.deepcopy(model.backbone).eval())

    def forward(self, image: Tensor) -> list[Tensor]:
        """[N,3,H,W], normalised -> features of levels 2, 3, 4, [N,L,C,row] each."""
        return [
            padded(torch.stack([layer.flatten(2) for layer in level], dim=1))
            for level in self.backbone(image)
        ]


class Support(nn.Module):
    """`HSNet.support` for one size: masking and normalising.

    The mask is resized by products with constant matrices. Coordinates computed in float32 can
    leave 1e-6 of the mask at a position that should be outside it, which normalising then scales up
    to a whole feature; so every backend gets the same, exact zeros.
    """

    def __init__(self, model: HSNet, size: Grid) -> None:
        super().__init__()
        for level, grid in zip(PYRAMID, model.grids(size), strict=True):
            rows, columns = (interpolation(*pair) for pair in zip(size, grid, strict=True))
            self.register_buffer(f"rows{level}", torch.from_numpy(rows).float())
            self.register_buffer(f"columns{level}", torch.from_numpy(columns.T.copy()).float())
        self.contrast = model.contrast is not None

    def forward(self, f2: Tensor, f3: Tensor, f4: Tensor, mask: Tensor) -> list[Tensor]:
        """Raw features [S,L,C,row] of levels 2, 3, 4 and masks [S,H,W] -> encoded, shaped alike.

        With a background contrast its vectors follow, [S,1,C,1] of levels 3 and 4.
        """
        shown = mask.relu() if self.contrast else mask
        encoded = []
        for level, features in zip(PYRAMID, (f2, f3, f4), strict=True):
            encoded.append(normalized(features * self._resized(shown, level)[:, None]))
        if self.contrast:
            rest = 1 - mask.abs()
            for level, features in zip(PYRAMID[1:], (f3, f4), strict=True):
                sides = [self._resized(side, level) for side in (shown, rest)]
                encoded.append(_direction(features[:, -1], sides))
        return encoded

    def _resized(self, mask: Tensor, level: int) -> Tensor:
        """A mask [S,H,W] on the grid of a level, as a padded row [S,1,row]."""
        rows, columns = self.get_buffer(f"rows{level}"), self.get_buffer(f"columns{level}")
        return padded(torch.matmul(torch.matmul(rows, mask), columns).flatten(1))[:, None]


def _direction(last: Tensor, sides: Sequence[Tensor]) -> Tensor:
    """The contrast's vector [S,1,C,1] of features [S,C,row] and two weights [S,1,row]; see `model`.

    Sums and what follows are float32 islands in FP16: the sums are large.
    """
    of_object, of_rest = (normalized((last * side).sum(dim=-1, keepdim=True)) for side in sides)
    first, second = (side.sum(dim=-1, keepdim=True).clamp(max=1) for side in sides)
    return ((of_object - of_rest) * first * second).unsqueeze(1)


def export_features(model: HSNet, size: Grid, facts: dict[str, str]) -> onnx.ModelProto:
    """`image` [N,3,H,W], normalised -> `f2`, `f3`, `f4` [N,L,C,row]."""
    image = torch.zeros(2, 3, *size)
    return _export(Features(model), (image,), {"image": "N"}, OUTPUTS["features"], facts)


def export_support(model: HSNet, size: Grid, facts: dict[str, str]) -> onnx.ModelProto:
    """`f2`, `f3`, `f4` [S,L,C,row] and `mask` [S,H,W] -> `s2`, `s3`, `s4`, shaped alike.

    With a background contrast also `c3` and `c4` [S,1,C,1].
    """
    inputs = (*_levels(model, size, 2), torch.zeros(2, *size))
    batch = dict.fromkeys(INPUTS["support"], "S")
    _, outputs = names_of("support", contrast=model.contrast is not None)
    return _export(Support(model, size), inputs, batch, outputs, facts)


def export_match(
    model: HSNet, size: Grid, lowering: str, facts: dict[str, str], correlation: str = "native"
) -> onnx.ModelProto:
    """`f2`..`f4` of B queries and `s2`..`s4` of S supports -> `logits` [B,S,2,2*h2,2*w2].

    With `correlation="plugin"` (only the `conv2d` lowering) the correlations are three nodes
    `hsnet::HyperCorrelation`, and the model holds the op's function of native ops. This form and
    the lowering `packed` take other supports: see `lowering_plugin` and `lowering_packed`. With a
    background contrast, every form also takes `c3` and `c4` [S,1,C,1].
    """
    graph = _as_in_the_paper(model, size, lowering, facts, correlation)
    if model.contrast is not None:
        add_contrast(graph, float(model.contrast.weight.detach()), model.grids(size))
    if model.self_support is not None:
        add_self_support(graph, float(model.self_support.weight.detach()), model.grids(size))
    if model.contrast is not None or model.self_support is not None:
        _check(graph, {entry.domain: entry.version for entry in graph.opset_import})
    return graph


def _as_in_the_paper(
    model: HSNet, size: Grid, lowering: str, facts: dict[str, str], correlation: str
) -> onnx.ModelProto:
    if lowering == CPU_LOWERING:
        return _export_packed(model, size, facts)
    if correlation == "plugin":
        return _export_plugin(model, size, facts)
    inputs = (*_levels(model, size, 2), *_levels(model, size, 3))
    batch = dict.fromkeys(FEATURES, "B") | dict.fromkeys(SUPPORTS, "S")
    return _export(LOWERINGS[lowering](model, size), inputs, batch, OUTPUTS["match"], facts)


def _export_packed(model: HSNet, size: Grid, facts: dict[str, str]) -> onnx.ModelProto:
    graph = write_packed_match(model, size, OPSET, IR_VERSION)
    onnx.helper.set_model_props(graph, facts)
    _check(graph)
    return graph


def _export_plugin(model: HSNet, size: Grid, facts: dict[str, str]) -> onnx.ModelProto:
    module = AfterCorrelation(model, size)
    inputs = [torch.zeros(shape) for shape in module.shapes(3)]
    tail = _export(module, inputs, dict.fromkeys(CORRELATION_INPUTS, "P"), ("logits",), facts)
    graph = put_correlations_before(tail, module, model.backbone.channels)
    _check(graph, {"": OPSET, DOMAIN: VERSION})
    return graph


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold every batch-norm into the convolution before it, in place; returns the module."""
    previous: str | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None:
            conv = getattr(module, previous)
            setattr(module, previous, fuse_conv_bn_eval(conv, child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        previous = name if isinstance(child, nn.Conv2d) else None
    return module


def _levels(model: HSNet, size: Grid, batch: int) -> list[Tensor]:
    """Placeholders of the right shapes. (The exporter would merge B and S if they were equal.)"""
    backbone = model.backbone
    return [
        torch.zeros(batch, layers, channels, row_length(h * w))
        for layers, channels, (h, w) in zip(
            backbone.layers, backbone.channels, model.grids(size), strict=True
        )
    ]


def _export(
    module: nn.Module,
    inputs: Sequence[Tensor],
    batch: dict[str, str],
    outputs: Sequence[str],
    facts: dict[str, str],
) -> onnx.ModelProto:
    """Export, fold, check. `batch` names each input and its dynamic first dimension."""
    dims = {name: torch.export.Dim(name, min=1, max=1 << 16) for name in set(batch.values())}
    with torch.no_grad(), _quiet(), G_LOGGER.verbosity(G_LOGGER.ERROR):
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(batch),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: dims[name]} for name in batch.values()),
            verbose=False,
        )
        assert program is not None
        graph = fold_constants(program.model_proto)
    _strip(graph, batch)
    onnx.helper.set_model_props(graph, facts)
    _check(graph)
    return graph


def _strip(model: onnx.ModelProto, batch: dict[str, str]) -> None:
    """Drop the exporter's traces (file names, stack traces) and name the batch dimensions."""
    model.producer_name, model.producer_version = "hsnet-trt", ""
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        dims = value.type.tensor_type.shape.dim
        if value.name in batch:
            dims[0].dim_param = batch[value.name]
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        kinds = sorted(set(batch.values()))  # ["B", "S"], ["N"] or ["S"]
        for dim, kind in zip(dims, kinds, strict=False):
            dim.dim_param = kind


def _check(model: onnx.ModelProto, opsets: dict[str, int] | None = None) -> None:
    """Check that the graph is valid ONNX with the expected opsets.

    `opsets`: None for ONNX's own only; else also the correlation op's, with its function.
    """
    opsets = opsets or {"": OPSET}
    found = {entry.domain: entry.version for entry in model.opset_import}
    functions = {function.domain for function in model.functions}
    if found != opsets or model.ir_version > IR_VERSION or functions != opsets.keys() - {""}:
        raise ExportError(
            "the exporter wrote another form of ONNX than requested",
            expected=f"opsets {opsets}, IR version {IR_VERSION} at most",
            found=f"opsets {found}, IR {model.ir_version}, {len(model.functions)} functions",
            fix="use a PyTorch release from setup.cfg's range",
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("the exported graph is not valid ONNX", found=error) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals; its result is checked instead."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
