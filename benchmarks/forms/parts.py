"""Parts of a lowering: its blocks and equal layers, on the inputs of a real call; its kernels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hsnet_trt.benchmarks.forms import changes
from hsnet_trt.benchmarks.forms.device import LOWERINGS, ROW_S, TOLERANCE, Device, off
from hsnet_trt.benchmarks.forms.whole import call_of
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


def kernels(device: Device, form: str, precision: str, most: int = 30) -> dict[str, Any]:
    """Where the time of a form goes, by PyTorch's profiler, the kernels that take most first.

    Returns:
        `rows`: kernel (on a CPU the operation), calls, microseconds of all of them, share of the
        whole; `us` and `calls` of the whole, of which `rows` are `most` at most. Or `skipped`.
    """
    torch = device.torch
    profiler = torch.profiler
    on_gpu = device.device != "cpu"
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    activities = [profiler.ProfilerActivity.CPU]
    if on_gpu:
        activities.append(profiler.ProfilerActivity.CUDA)
    with torch.no_grad():
        call = call_of(device, form, device.compute_in(precision))
        for _ in range(3):
            call()
        try:
            with profiler.profile(activities=activities) as profile:
                call()
                if on_gpu:
                    torch.cuda.synchronize()
        except RuntimeError as error:  # where others hold the card's counters, for one
            return {"skipped": f"the profiler: {error}"[:300]}
    times = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event)
        for event in profile.key_averages()
        if event.device_type == kind
    }
    whole = sum(us for us, _ in times.values())
    if not whole:
        return {"skipped": "the profiler saw no kernels; it may not be allowed here"}
    rows = [
        {
            "kernel": name[:160],
            "calls": event.count,
            "us": round(us, 1),
            "share": round(us / whole, 3),
        }
        for name, (us, event) in sorted(times.items(), key=lambda item: -item[1][0])
    ]
    calls = sum(row["calls"] for row in rows)
    return {"form": form, "us": round(whole, 1), "calls": calls, "rows": rows[:most]}


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
