"""`hsnet-trt export-triton`: bundles become a Triton model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hsnet_trt.cli.shared.options import PrecisionOption, SizeOption


def export_triton(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            help="Bundles of one network; several bring TensorRT engines for several GPUs."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The model repository.")],
    platforms: Annotated[
        str,
        typer.Option(
            help="What may run the graphs, in order of preference: tensorrt, onnxruntime_cuda (on "
            "GPUs alone), onnxruntime, python (ONNX Runtime in the Python backend). The first that "
            "the bundles have files for is taken."
        ),
    ] = "tensorrt,onnxruntime",
    size: SizeOption = None,
    precision: PrecisionOption = None,
    name: Annotated[
        str, typer.Option(help="The model's name, for several networks in one repository.")
    ] = "hsnet",
) -> None:
    """Write a model repository for NVIDIA Triton Inference Server.

    It holds the features, support and match graphs, and the model that clients call, which keeps
    support sets and turns pictures into masks. If the repository already holds a network of the
    same shapes, a new version is added.
    """
    import shlex

    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.serving.triton_server.repository import export_repository

    repository = export_repository(
        bundles,
        out,
        [word.strip() for word in platforms.split(",")],
        size=size,
        precision=precision,
        prefix=name,
    )
    console = plain_console(stderr=True, soft_wrap=True, highlight=False)
    console.print(
        f"{', '.join(repository.models)}: version {repository.version}, {repository.platform}"
    )
    if repository.tensorrt is not None:
        console.print(
            f"compute capability {', '.join(repository.capabilities)}; the server needs TensorRT "
            f"{repository.tensorrt}"
        )
    console.print("the server needs this package in its Python: pip install . there")
    console.print(f"serve it: {shlex.join(repository.command)}")
    typer.echo(repository.path)
