"""The whole network: the authors' order, this repository's lowerings, and changes to these."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from hsnet_trt.benchmarks.forms import changes
from hsnet_trt.benchmarks.forms.device import LOWERINGS, ROW_S, Device
from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder
from hsnet_trt.export.graphs.lowering import padded

Trial: TypeAlias = "tuple[str, str]"  # what a row measures: form, precision

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
# Lowerings with one or two changes (see `changes`), to find out which are worth exporting.
CHANGED = (
    "ours, conv3d, channels-last throughout",
    "ours, conv3d, channels-last throughout, 8 channels",
    "ours, conv3d, channels-last, 8 channels",
    "ours, conv3d, channels-last, fused norms",
    "ours, conv2d, channels-last throughout",
    "ours, conv2d, channels-last, 8 channels",
)
CHANGED_ROWS: tuple[Trial, ...] = tuple((form, "fp16") for form in CHANGED)
OTHER_ROWS: tuple[Trial, ...] = (
    *((form, "fp32") for form in OURS),
    ("authors' order, channels-last", "fp32"),
    ("authors' order, channels-last", "fp16"),
)
# What a compiler fuses (such as norms with their ReLU) shows how much fusing can gain.
OURS_COMPILED = "ours, conv3d, channels-last, torch.compile"
COMPILED_ROWS: tuple[Trial, ...] = (
    (COMPILED, "fp16"),
    (OURS_COMPILED, "fp16"),
    (COMPILED, "fp32"),
)
FULL_ROWS: tuple[Trial, ...] = tuple(
    (form, precision) for precision in ("tf32", "bf16") for form in (EAGER, *OURS, COMPILED)
)
COMPILED_ROW_S = 40.0  # like ROW_S, for a compiled row


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
        if left() < (COMPILED_ROW_S if form.endswith("torch.compile") else ROW_S):
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
    last = any(detail.startswith("channels-last") for detail in details)
    layout = torch.channels_last if last else torch.contiguous_format
    compiled = "torch.compile" in details
    if kind == "ours":
        match = LOWERINGS[details[0]](device.model, device.case.size).eval()
        for name, change in changes.CHANGES.items():
            if name in details:
                change(match)
        return _ours(device, match, layout, dtype, compiled=compiled)
    return _authors(device, layout, dtype, compiled=compiled)


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


def _ours(
    device: Device, match: Any, layout: Any, dtype: Any, *, compiled: bool
) -> Callable[[], list[Any]]:
    """Features of the query, then a lowering on all registered supports."""
    torch = device.torch
    backbone = copy.deepcopy(device.model).to(dtype)
    if layout == torch.channels_last:
        changes.channels_last(backbone.backbone)
    query = device.query.to(dtype).contiguous(memory_format=layout)
    encoded = [padded(level.to(dtype)) for level in device.encoded]
    match = match.to(device.device).to(dtype)

    def forward(image: Any) -> Any:
        return match(*map(padded, backbone.features(image)), *encoded)

    run = torch.compile(forward) if compiled else forward
    return lambda: [run(query)]
