"""`hsnet-trt verify`: does a bundle give PyTorch's outputs on this machine?"""

from __future__ import annotations

from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import (
    BackendOption,
    BundleArgument,
    PrecisionOption,
    Sha256Option,
    Size,
    size_option,
)


def verify(
    bundle: BundleArgument,
    *,
    backend: BackendOption = "auto",
    precision: PrecisionOption = None,
    size: Annotated[Size | None, size_option("; by default all.")] = None,
    sha256: Sha256Option = None,
) -> None:
    """Check the hash of every file of BUNDLE, and its network against PyTorch's golden outputs.

    Exit code 1 if a file was altered or the logits are out of tolerance.
    """
    from rich.table import Table

    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.errors import BackendError
    from hsnet_trt.runtime.verify import verify_bundle

    results = verify_bundle(bundle, backend, size, precision, sha256)
    console = plain_console()
    for result in results:
        height, width = result.size
        table = Table(
            "graph",
            "tensor",
            "max difference",
            "over std",
            "99.9 % over std",
            "",
            title=f"{height} x {width}, {result.precision}, {result.backend}\n{result.device}",
        )
        for figure in result.figures:
            last, bounds = figure is result.figures[-1], result.tolerance
            at_most = f"at most {bounds.max_difference:.1e}, {bounds.p999_difference:.1e}"
            table.add_row(
                figure.graph,
                figure.tensor,
                f"{figure.max_difference:.2e}",
                f"{figure.relative:.2e}",
                f"{figure.relative_p999:.2e}",
                at_most if last else "",
            )
        console.print(table)
        console.print(
            f"another class at {100 * result.flipped:.3f} % of the positions "
            f"(at most {100 * result.tolerance.flipped:g} %)"
        )
    for result in results:
        if result.culprit is not None:
            bounds, logits = result.tolerance, result.figures[-1]
            raise BackendError(
                f"the bundle is not right on {result.backend} at {result.precision}",
                expected=f"logits within {bounds.max_difference:.1e} of their standard deviation, "
                f"99.9 % of them within {bounds.p999_difference:.1e}, and at most "
                f"{100 * bounds.flipped:g} % of the positions of another class",
                found=f"{logits.relative:.1e}, {logits.relative_p999:.1e} and "
                f"{100 * result.flipped:.2g} %; the first tensor that differs so much is "
                f"{result.culprit.tensor} of the graph {result.culprit.graph}",
                fix="build the engines again, or choose another precision or backend",
            )
    typer.echo("verified: every hash, and every size within tolerance")
