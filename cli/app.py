"""`hsnet-trt app`: a web page to paint masks on and see answers."""

from __future__ import annotations

from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import BundleArgument, RunOptions, SupportsOption


def app(
    bundle: BundleArgument,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    supports: SupportsOption = None,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="The largest file that the page accepts.")
    ] = 32,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page in this machine's browser.")
    ] = False,
    run: RunOptions,
) -> None:
    """Serve a page: show objects by painting masks, find them in photographs or a camera's frames.

    Only this machine can reach it unless --host is given. Ctrl+C ends it.
    """
    import webbrowser

    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.runtime.network import Network
    from hsnet_trt.serving.app.app import serve
    from hsnet_trt.serving.app.workspace import PageLimits

    console = plain_console(stderr=True, highlight=False)
    network = Network.load(
        bundle,
        run.backend,
        run.size,
        run.sha256,
        run.precision,
        run.lowering,
        run.gpu_memory,
        run.refine,
    )

    def ready(address: str) -> None:
        runner = network.runner
        console.print(f"{runner.backend}, {runner.precision}, on {runner.device}")
        if not network.bundle.manifest.model.trained:
            console.print("the weights are random: its masks mean nothing", style="yellow")
        if "token=" in address:
            console.print("whoever has this address can use the page", style="yellow")
        typer.echo(address)
        if open_:
            webbrowser.open(address)

    limits = PageLimits(upload_bytes=int(max_upload_mb * 1e6))
    try:
        serve(network, host, port, limits=limits, supports=supports, on_ready=ready)
    finally:
        network.close()
