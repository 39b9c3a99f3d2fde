"""`hsnet-trt estimate`: how fast would a bundle be on a machine that is not here?"""

from __future__ import annotations

from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import BundleArgument, SizeOption


def estimate(
    bundle: BundleArgument,
    target: Annotated[
        list[str] | None, typer.Option(help="As for build-engine; may be repeated. By default all.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, tf32, fp16 or int8; by default the fastest of known rate."),
    ] = None,
    size: SizeOption = None,
    shots: Annotated[int, typer.Option(help="Supports per class.", min=1)] = 1,
    classes: Annotated[int, typer.Option(help="Classes.", min=1)] = 1,
    area: Annotated[float, typer.Option(help="Mask's share of a support.")] = 0.2,
    workload: Annotated[
        str, typer.Option(help="stream (a query, supports registered) or episode (both new).")
    ] = "stream",
) -> None:
    """Predict the latency of BUNDLE on targets: a model, from counted work and published rates.

    Nothing is run. At the fast end of each range layers are fused as an engine fuses them, at the
    slow end none is. The last lines compare the model with the card that was measured.
    """
    from rich.table import Table

    from hsnet_trt.benchmarks.limits import estimate as model
    from hsnet_trt.benchmarks.limits.case import Case
    from hsnet_trt.benchmarks.limits.roofline import Counter
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.errors import InputError
    from hsnet_trt.export.engines.targets import TARGETS, find_target
    from hsnet_trt.runtime.bundle import Bundle
    from hsnet_trt.runtime.device.machine import find_driver

    choices = (
        ("precision", precision, ("fp32", "tf32", "fp16", "int8", None)),
        ("workload", workload, ("stream", "episode")),
    )
    for name, given, allowed in choices:
        if given not in allowed:
            raise InputError(
                f"there is no such {name}", expected=", ".join(filter(None, allowed)), found=given
            )
    opened = Bundle.open(bundle)
    at = opened.size(size)
    case = Case(opened.manifest.model.backbone, at, shots=shots, classes=classes, area=area)
    work = Counter(opened, at, "fp32", packed=False).work(case, workload)
    driver = find_driver() if target and "this" in target else None
    targets = [find_target(name, driver) for name in target] if target else [*TARGETS.values()]
    table = Table(title=f"{case}, {workload}: predicted, not measured", box=None)
    for column in ("target", "precision", "ms", "per second", "at best mostly"):
        table.add_column(column, no_wrap=True)
    for machine in targets:
        found = model.estimate(work, machine, precision or model.best_precision(machine))
        table.add_row(machine.name, found.precision, *_cells(found))
    console = plain_console(width=None if typer.get_text_stream("stdout").isatty() else 110)
    console.print(table)
    console.print(
        f"{work.flops / 1e9:.1f} G operations, {work.needed_bytes / 1e6:.0f} to "
        f"{work.moved_bytes / 1e6:.0f} MB (in FP32) a call, counted on the ONNX graphs. A model: "
        "rates are published peaks, and nothing was run there.\n" + model.summary(model.checks()),
        highlight=False,
    )


def _cells(found: object) -> tuple[str, str, str]:
    from hsnet_trt.benchmarks.limits.estimate import Estimate

    assert isinstance(found, Estimate)
    if found.low is None:
        return "no rate published", "", ""
    if found.high is None:
        return (
            f"at least {found.low:.2g}",
            f"at most {1000 / found.low:.0f}",
            f"{found.bound} (no rate published)",
        )
    return (
        f"{found.low:.3g} to {found.high:.3g}",
        f"{1000 / found.high:.0f} to {1000 / found.low:.0f}",
        found.bound,
    )
