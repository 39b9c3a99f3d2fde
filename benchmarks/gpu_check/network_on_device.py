"""HSNet in PyTorch on a card, in every form that might win: whole, and block by block.

Everything is judged by the model in FP32 on the same card before it is timed. The device and the
clock are given, so that the same code runs where no GPU is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d
from hsnet_trt.export.graphs.probe import normalise
from hsnet_trt.model.hsnet import HSNet

Clock = Callable[[Callable[[], Any]], float]  # milliseconds of a call

LOWERINGS = {"conv2d": MatchConv2d, "conv3d": MatchConv3d}
# max|difference| of logits over their standard deviation; FP32 here has TF32 switched off.
TOLERANCE = {"fp32": 1e-3, "tf32": 0.05, "fp16": 0.1, "bf16": 0.5}


class Device:
    """A network and one case's inputs on a device.

    Args:
        model: in FP32; it is copied.
        case: backbone, size, shots and mask area; one class, one query.
        device: as PyTorch names it.
        clocks: by name, ways to time a call: as it is, or as a CUDA graph.
    """

    def __init__(self, model: HSNet, case: Case, device: str, clocks: dict[str, Clock]) -> None:
        import torch

        self.torch, self.case, self.device, self.clocks = torch, case, device, clocks
        self.model = copy.deepcopy(model).eval().to(device)
        inputs = draw_inputs(case, model.grids(case.size))
        self.query = normalise(np.stack(inputs.queries[0])).to(device)
        self.supports = normalise(np.stack(inputs.supports[0].images[0])).to(device)
        self.masks = torch.from_numpy(np.stack(inputs.supports[0].masks[0])).float().to(device)
        with torch.no_grad():
            self.features = self.model.features(self.query)
            self.encoded = self.model.support(self.model.features(self.supports), self.masks)
            self.logits = self.model.match(self.features, self.encoded, case.size)

    def precisions(self) -> Iterator[tuple[str, Any]]:
        """Every precision that this device computes, and PyTorch's type; TF32 set as it says."""
        torch = self.torch
        for name, dtype in (("fp32", torch.float32), ("tf32", torch.float32),
                            ("fp16", torch.float16), ("bf16", torch.bfloat16)):  # fmt: skip
            if name == "tf32" and self.device == "cpu":
                continue
            torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
            torch.backends.cudnn.allow_tf32 = name == "tf32"
            yield name, dtype

    def timed(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Milliseconds by clock; an error where that clock could not."""
        found: dict[str, Any] = {}
        for name, clock in self.clocks.items():
            try:
                found[name] = round(clock(call), 4)
            except RuntimeError as error:  # a graph cannot hold every operation
                found[name] = f"not: {str(error).splitlines()[0][:120]}"
        return found

    def judged(self, name: str, precision: str, logits: Any) -> dict[str, Any]:
        """The error of logits, and whether it is too large."""
        expected = self.logits.flatten(0, 1).float()
        off = (logits.float().reshape(expected.shape) - expected).abs().max() / expected.std()
        error = float(off)
        wrong = [] if error <= TOLERANCE[precision] else [f"{name} {precision}: off by {error:.2g}"]
        return {"error": error, "wrong": wrong}


def whole_network(device: Device, compiled: bool = True) -> dict[str, Any]:
    """One query with its supports registered before, and with everything anew (as the authors).

    Returns:
        `rows`: form, precision, error, milliseconds by clock; `wrong`: what is not the model.
    """
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []

    def add(
        form: str, precision: str, call: Callable[[], Any], shaped: Callable[[Any], Any]
    ) -> None:
        try:
            with device.torch.no_grad():
                verdict = device.judged(form, precision, shaped(call()))
                rows.append(
                    {"form": form, "precision": precision, "error": verdict["error"],
                     "ms": device.timed(call)}
                )  # fmt: skip
            wrong.extend(verdict["wrong"])
        except Exception as error:  # noqa: BLE001  (torch.compile may fail in any way)
            rows.append({"form": form, "precision": precision, "failed": f"{error}"[:300]})

    for precision, dtype in device.precisions():
        for form, call in _authors_forms(device, precision, dtype, compiled):
            add(form, precision, call, device.torch.cat)
        for form, call in _our_forms(device, dtype):
            add(form, precision, call, lambda found: found)
    return {"rows": rows, "wrong": wrong}


def _authors_forms(
    device: Device, precision: str, dtype: Any, compiled: bool
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Query and support encoded anew for every shot; FP16 and BF16 by autocast."""
    torch, case = device.torch, device.case
    net = AuthorsOrder(device.model).eval()
    half_size = (2 * device.model.grids(case.size)[0][0], 2 * device.model.grids(case.size)[0][1])

    def run(forward: Callable[..., Any], layout: Any) -> Callable[[], Any]:
        query = device.query.contiguous(memory_format=layout)
        shots = [
            (device.supports[k : k + 1].contiguous(memory_format=layout), device.masks[k : k + 1])
            for k in range(case.shots)
        ]

        def call() -> Any:
            kind = device.device.partition(":")[0]
            with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
                return [forward(query, image, mask) for image, mask in shots]

        return call

    # Logits at the decoder's size, to be compared with the model's; upsampling is left out for all.
    def forward(query: Any, image: Any, mask: Any) -> Any:
        return net.match(net.encode(query), net.encode_support(image, mask), half_size)

    yield "authors' order, eager", run(forward, torch.contiguous_format)
    if precision in ("fp32", "fp16"):
        yield "authors' order, channels-last", run(forward, torch.channels_last)
    if compiled:
        yield "authors' order, torch.compile", run(torch.compile(forward), torch.contiguous_format)


def _our_forms(device: Device, dtype: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Features of the query, then one of the lowerings on all registered supports."""
    torch = device.torch
    for layout_name, layout in (("", torch.contiguous_format),
                                (", channels-last", torch.channels_last)):  # fmt: skip
        backbone = copy.deepcopy(device.model).to(dtype)
        if layout == torch.channels_last:
            _channels_last(torch, backbone.backbone)
        query = device.query.to(dtype).contiguous(memory_format=layout)
        encoded = [level.to(dtype) for level in device.encoded]
        for name, kind in LOWERINGS.items():
            match = kind(device.model, device.case.size).eval().to(device.device).to(dtype)

            def call(
                backbone: Any = backbone, match: Any = match, query: Any = query,
                encoded: Any = encoded,
            ) -> Any:  # fmt: skip
                return match(*backbone.features(query), *encoded)

            yield f"ours, {name}{layout_name}", call


def blocks(device: Device) -> dict[str, Any]:
    """Every block of every lowering, on the inputs that it gets in a real call.

    Returns:
        `rows`: lowering, block, precision, layout of the weights, milliseconds by clock.
    """
    torch = device.torch
    rows = []
    with torch.no_grad():
        for precision, dtype in device.precisions():
            features = [level.to(dtype) for level in device.features]
            encoded = [level.to(dtype) for level in device.encoded]
            for lowering, kind in LOWERINGS.items():
                for layout in ("contiguous", "channels_last"):
                    match = kind(device.model, device.case.size).eval().to(device.device).to(dtype)
                    if layout == "channels_last":
                        if lowering == "conv3d":
                            continue  # its convolutions are of five dimensions
                        _channels_last(torch, match)
                    given = inputs_of_children(match, (*features, *encoded))
                    for block, inputs in given.items():
                        child = match.get_submodule(block)
                        rows.append(
                            {"lowering": lowering, "block": block, "precision": precision,
                             "layout": layout,
                             "ms": device.timed(partial(child, *inputs))}
                        )  # fmt: skip
    return {"rows": rows}


def _channels_last(torch: Any, module: Any) -> None:
    """The weights of every 2D convolution in it."""
    for child in module.modules():
        if isinstance(child, torch.nn.Conv2d):
            child.to(memory_format=torch.channels_last)


def inputs_of_children(module: Any, inputs: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """What each child of a module is called with, when the module is."""
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
