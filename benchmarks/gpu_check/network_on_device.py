"""HSNet in PyTorch on a card, in every form that might be fastest: whole, and block by block.

Before it is timed, every form is compared with the model in FP32 on the same card, with TF32 off.
Device and clock are parameters, so that the code also runs without a GPU.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder
from hsnet_trt.export.graphs.lowering import padded
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d
from hsnet_trt.export.graphs.probe import normalise
from hsnet_trt.model.hsnet import HSNet

Clock = Callable[[Callable[[], Any]], float]  # milliseconds of a call
Trial: TypeAlias = "tuple[str, str]"  # what a row measures: form, precision

LOWERINGS = {"conv2d": MatchConv2d, "conv3d": MatchConv3d}
EAGER, COMPILED = "authors' order, eager", "authors' order, torch.compile"
OURS = (
    "ours, conv3d, channels-last",
    "ours, conv2d, channels-last",
    "ours, conv3d",
    "ours, conv2d",
)
# The most important first: time may run out after any of them.
FIRST_ROWS: tuple[Trial, ...] = (
    (EAGER, "fp32"),
    (EAGER, "fp16"),
    *((form, "fp16") for form in OURS),
)
OTHER_ROWS: tuple[Trial, ...] = (
    *((form, "fp32") for form in OURS),
    ("authors' order, channels-last", "fp32"),
    ("authors' order, channels-last", "fp16"),
)
COMPILED_ROWS: tuple[Trial, ...] = ((COMPILED, "fp16"), (COMPILED, "fp32"))
FULL_ROWS: tuple[Trial, ...] = tuple(
    (form, precision) for precision in ("tf32", "bf16") for form in (EAGER, *OURS, COMPILED)
)
ROW_S, COMPILED_ROW_S = 8.0, 40.0  # seconds that must be left to begin a row
# Largest difference of logits over their standard deviation; FP32 is without TF32.
TOLERANCE = {"fp32": 1e-3, "tf32": 0.05, "fp16": 0.1, "bf16": 0.5}
_TYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Device:
    """A network and one case's inputs on a device.

    Args:
        model: in FP32; it is copied.
        case: backbone, size, shots and mask area, with one class and one query.
        device: as PyTorch names it.
        clocks: name -> way to time a call, as it is or as a CUDA graph.
    """

    def __init__(self, model: HSNet, case: Case, device: str, clocks: dict[str, Clock]) -> None:
        import torch

        self.torch, self.case, self.device, self.clocks = torch, case, device, clocks
        self.model = copy.deepcopy(model).eval().to(device)
        self.compute_in("fp32")  # for the reference; cuDNN uses TF32 by default
        inputs = draw_inputs(case, model.grids(case.size))
        self.query = normalise(np.stack(inputs.queries[0])).to(device)
        self.supports = normalise(np.stack(inputs.supports[0].images[0])).to(device)
        self.masks = torch.from_numpy(np.stack(inputs.supports[0].masks[0])).float().to(device)
        with torch.no_grad():
            self.features = self.model.features(self.query)
            self.encoded = self.model.support(self.model.features(self.supports), self.masks)
            self.logits = self.model.match(self.features, self.encoded, case.size)

    def compute_in(self, precision: str) -> Any:
        """Switch TF32 on or off from now on; returns PyTorch's dtype for that precision."""
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return getattr(torch, _TYPES[precision])

    def timed(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Milliseconds by clock; an error message for a clock that failed."""
        found: dict[str, Any] = {}
        for name, clock in self.clocks.items():
            try:
                found[name] = round(clock(call), 4)
            except RuntimeError as error:  # some operations cannot be captured in a graph
                found[name] = f"not: {str(error).splitlines()[0][:120]}"
        return found

    def judged(self, name: str, precision: str, logits: Any) -> dict[str, Any]:
        """The relative error of logits, and whether it is too large."""
        expected = self.logits.flatten(0, 1).float()
        off = (logits.float().reshape(expected.shape) - expected).abs().max() / expected.std()
        error = float(off)
        wrong = [] if error <= TOLERANCE[precision] else [f"{name} {precision}: off by {error:.2g}"]
        return {"error": error, "wrong": wrong}


def whole_network(
    device: Device, rows: Sequence[Trial], left: Callable[[], float] = lambda: math.inf
) -> dict[str, Any]:
    """Time one query: "ours" with supports registered before, the authors' order with none.

    Args:
        device: the network and its inputs.
        rows: (form, precision), the most important first.
        left: seconds left for all rows.

    Returns:
        `rows`: form, precision, error and milliseconds by clock, or why there are none; `wrong`:
        forms whose error is too large.
    """
    found: list[dict[str, Any]] = []
    wrong: list[str] = []
    for form, precision in rows:
        row: dict[str, Any] = {"form": form, "precision": precision}
        found.append(row)
        if left() < (COMPILED_ROW_S if form == COMPILED else ROW_S):
            row["skipped"] = "no time was left"
            continue
        try:
            with device.torch.no_grad():
                call = _form(device, form, device.compute_in(precision))
                logits = call()
                verdict = device.judged(form, precision, device.torch.cat(logits))
                row |= {"error": verdict["error"], "ms": device.timed(call)}
            wrong.extend(verdict["wrong"])
        except Exception as error:  # noqa: BLE001  (torch.compile may fail in any way)
            row["failed"] = f"{error}"[:300]
    return {"rows": found, "wrong": wrong}


def _form(device: Device, form: str, dtype: Any) -> Callable[[], list[Any]]:
    """The call that a row times; it returns logits, as one tensor or one per shot."""
    torch = device.torch
    kind, *details = form.split(", ")
    layout = torch.channels_last if "channels-last" in details else torch.contiguous_format
    if kind == "ours":
        return _ours(device, LOWERINGS[details[0]], layout, dtype)
    return _authors(device, layout, dtype, compiled="torch.compile" in details)


def _authors(device: Device, layout: Any, dtype: Any, *, compiled: bool) -> Callable[[], list[Any]]:
    """Query and support are encoded again for every shot; FP16 and BF16 by autocast."""
    torch, case = device.torch, device.case
    net = AuthorsOrder(device.model).eval()
    half_size = (2 * device.model.grids(case.size)[0][0], 2 * device.model.grids(case.size)[0][1])

    # Logits at the decoder's size, to compare with the model's; no form upsamples.
    def forward(query: Any, image: Any, mask: Any) -> Any:
        return net.match(net.encode(query), net.encode_support(image, mask), half_size)

    run = torch.compile(forward) if compiled else forward
    query = device.query.contiguous(memory_format=layout)
    shots = [
        (device.supports[k : k + 1].contiguous(memory_format=layout), device.masks[k : k + 1])
        for k in range(case.shots)
    ]

    def call() -> list[Any]:
        kind = device.device.partition(":")[0]
        with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            return [run(query, image, mask) for image, mask in shots]

    return call


def _ours(device: Device, lowering: Any, layout: Any, dtype: Any) -> Callable[[], list[Any]]:
    """Features of the query, then a lowering on all registered supports."""
    torch = device.torch
    backbone = copy.deepcopy(device.model).to(dtype)
    if layout == torch.channels_last:
        _channels_last(torch, backbone.backbone)
    query = device.query.to(dtype).contiguous(memory_format=layout)
    encoded = [padded(level.to(dtype)) for level in device.encoded]
    match = lowering(device.model, device.case.size).eval().to(device.device).to(dtype)
    return lambda: [match(*map(padded, backbone.features(query)), *encoded)]


def blocks(
    device: Device,
    precisions: Sequence[str] = ("fp16", "fp32"),
    left: Callable[[], float] = lambda: math.inf,
) -> dict[str, Any]:
    """Time every block of every lowering, on the inputs that it gets in a real call.

    Returns:
        `rows`: lowering, block, precision, layout of the weights, milliseconds by clock; `skipped`
        if time ran out before the last one.
    """
    torch = device.torch
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for precision in precisions:
            dtype = device.compute_in(precision)
            features = [padded(level.to(dtype)) for level in device.features]
            encoded = [padded(level.to(dtype)) for level in device.encoded]
            for lowering, layout in (
                ("conv3d", "contiguous"),
                ("conv2d", "channels_last"),
                ("conv2d", "contiguous"),
            ):
                match = LOWERINGS[lowering](device.model, device.case.size).eval()
                match = match.to(device.device).to(dtype)
                if layout == "channels_last":
                    _channels_last(torch, match)
                given = inputs_of_children(match, (*features, *encoded))
                for block, inputs in given.items():
                    if left() < ROW_S:
                        return {"rows": rows, "skipped": f"no time was left for {precision}"}
                    child = match.get_submodule(block)
                    rows.append(
                        {
                            "lowering": lowering,
                            "block": block,
                            "precision": precision,
                            "layout": layout,
                            "ms": device.timed(partial(child, *inputs)),
                        }
                    )
    return {"rows": rows}


def _channels_last(torch: Any, module: Any) -> None:
    """Make the weights of every 2D convolution in a module channels-last."""
    for child in module.modules():
        if isinstance(child, torch.nn.Conv2d):
            child.to(memory_format=torch.channels_last)


def inputs_of_children(module: Any, inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """The inputs of each child of a module, when the module runs on `inputs`."""
    found: dict[str, tuple[Any, ...]] = {}
    hooks = [
        child.register_forward_pre_hook(lambda _, given, name=name: found.update({name: given}))
        for name, child in module.named_children()
    ]
    try:
        module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found
