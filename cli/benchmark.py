"""`hsnet-trt benchmark`: how fast is a bundle beside PyTorch, on this machine, in one run?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def benchmark(
    bundle: Annotated[list[Path], typer.Argument(help="Bundles of one network.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Their checkpoint; not needed for random-checkpoint's.")
    ] = None,
    shots: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 5.")] = None,
    area: Annotated[
        list[float] | None, typer.Option(help="Mask's share of a support; 0.2 and 1.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Contenders whose name holds this, and the baseline.")
    ] = "",
    rounds: Annotated[int, typer.Option(help="Repeats, each of every contender.")] = 8,
) -> None:
    """Time BUNDLE and PyTorch beside each other."""
    from rich.console import Console
    from rich.table import Table

    from hsnet_trt.benchmarks.contenders import BASELINE, bundle_specs, torch_specs
    from hsnet_trt.benchmarks.speed import Effort, label, run
    from hsnet_trt.benchmarks.speed_case import Case
    from hsnet_trt.cli.steps import StepBar
    from hsnet_trt.model.hsnet import HSNet
    from hsnet_trt.runtime.bundle import Bundle

    manifest = Bundle.open(bundle[0]).manifest
    size, backbone = manifest.sizes[0], manifest.model.backbone
    specs = torch_specs(backbone, str(checkpoint) if checkpoint else None, "cpu")
    for path in bundle:
        specs += bundle_specs(path, path.name if len(bundle) > 1 else "")
    specs = [s for s in specs if s.name == BASELINE or only.lower() in label(s).lower()]
    cases = [
        Case(backbone, size, shots=s, area=a) for s in shots or [1, 5] for a in area or [0.2, 1.0]
    ]
    with StepBar(Console(stderr=True)) as bar:
        outcome = run(specs, cases, HSNet(backbone).grids(size), Effort(rounds=rounds), bar)
    for case in cases:
        table = Table(title=str(case), box=None)
        for column in ("mode", "workload", "contender", "median ms", "p90", "spread", "faster",
                       "host MB", "scores differ"):  # fmt: skip
            table.add_column(column)
        for row in sorted(
            (r for r in outcome.rows if r.case == case), key=lambda r: (r.mode, r.workload)
        ):
            faster = row.speedup
            table.add_row(
                row.mode, row.workload, f"{row.contender} {row.precision}",
                f"{row.times.median:.1f}", f"{row.times.p90:.1f}",
                f"{row.times.spread:.0%}{' noisy' if row.times.noisy else ''}",
                "" if faster is None
                else f"{faster.median:.2f} ({faster.low:.2f}..{faster.high:.2f})",
                f"{(row.host_bytes or 0) / 1e6:.0f}", f"{row.score_difference or 0:.1e}",
            )  # fmt: skip
        Console(width=140).print(table)
    for name, why in outcome.refused.items():
        print(f"not run: {name}: {why}")
    for line in outcome.wrong:
        print(f"WRONG: {line}")
