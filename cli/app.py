"""`hsnet-trt app`: a page on which masks are painted and answers seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def app(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    supports: Annotated[
        Path | None, typer.Option(help="Classes that were kept with --save-supports or the page.")
    ] = None,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="The largest file that the page takes.")
    ] = 32,
    open_: Annotated[
        bool, typer.Option("--open", help="Open it in this machine's browser.")
    ] = False,
    backend: Annotated[
        str, typer.Option(help="auto, tensorrt, tensorrt_rtx or onnxruntime.")
    ] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8.")] = None,
    size: Annotated[
        str | None, typer.Option(help="400 or 480x640 (height x width), one of the bundle's.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that bundle.json must have.")] = None,
) -> None:
    """Serve a page: show objects by painting masks, find them in photographs or a camera's frames.

    For this machine's browsers alone, unless --host says otherwise; Ctrl+C ends it.
    """
    import webbrowser

    from rich.console import Console

    from hsnet_trt.export.profiles import parse_size
    from hsnet_trt.serving.app import serve
    from hsnet_trt.serving.app_desk import Limits
    from hsnet_trt.serving.app_network import Network

    console = Console(stderr=True, highlight=False)
    network = Network.load(bundle, backend, parse_size(size) if size else None, sha256, precision)

    def ready(address: str) -> None:
        runner = network.runner
        console.print(f"{runner.backend}, {runner.precision}, on {runner.device}")
        if not network.bundle.manifest.model.trained:
            console.print("[yellow]the weights are random: its masks mean nothing[/]")
        if "token=" in address:
            console.print("[yellow]whoever has this address can use the page[/]")
        typer.echo(address)
        if open_:
            webbrowser.open(address)

    limits = Limits(upload_bytes=int(max_upload_mb * 1e6))
    try:
        serve(network, host, port, limits=limits, supports=supports, on_ready=ready)
    finally:
        network.close()
