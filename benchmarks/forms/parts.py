"""Parts of the lowerings on the inputs that they get in a real call: blocks, and equal layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hsnet_trt.benchmarks.forms import changes
from hsnet_trt.benchmarks.forms.device import LOWERINGS, ROW_S, TOLERANCE, Device, off
from hsnet_trt.export.graphs.lowering import padded
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d


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
                    changes.channels_last(match)
                names = [name for name, _ in match.named_children()]
                given = inputs_of(match, names, (*features, *encoded))
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


def equal_layers(
    device: Device,
    precisions: Sequence[str] = ("fp16", "fp32"),
    left: Callable[[], float] = lambda: math.inf,
) -> dict[str, Any]:
    """Time equal layers of several levels, one by one and as one grouped convolution each way.

    Returns:
        `rows`: layers, form, precision, error, milliseconds by clock; `wrong`: forms whose error is
        too large; `skipped` if time ran out before the last one.
    """
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    with device.torch.no_grad():
        for precision in precisions:
            match = MatchConv3d(device.model, device.case.size).eval().to(device.device)
            levels = [padded(level) for level in (*device.features, *device.encoded)]
            for names in changes.equal_layers(match):
                if left() < ROW_S:
                    skipped = f"no time was left for {precision}"
                    return {"rows": rows, "wrong": wrong, "skipped": skipped}
                device.compute_in("fp32")
                inputs = [x for x, *_ in inputs_of(match, names, levels).values()]
                expected = changes.Apart(match, names)(*inputs)
                dtype = device.compute_in(precision)
                for form in (changes.Apart, changes.Together):
                    layers = copy.deepcopy(form(match, names)).to(dtype)
                    call = partial(layers, *(x.to(dtype) for x in inputs))
                    row = {"layers": ", ".join(names), "form": form.__name__.lower()}
                    error = max(map(off, call(), expected))
                    rows.append(row | {"precision": precision, "error": error})
                    rows[-1]["ms"] = device.timed(call)
                    if not error <= TOLERANCE[precision]:
                        wrong.append(f"{rows[-1]['form']} {names} {precision}: off by {error:.2g}")
    return {"rows": rows, "wrong": wrong}


def inputs_of(
    module: Any, names: Sequence[str], inputs: Sequence[Any]
) -> dict[str, tuple[Any, ...]]:
    """The inputs of each named submodule, when `module` runs on `inputs`."""
    found: dict[str, tuple[Any, ...]] = {}
    hooks = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: found.update({name: given})
        )
        for name in names
    ]
    try:
        module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in names}
