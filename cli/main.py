"""The `hsnet-trt` command: its verbs, and how their errors are shown."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from hsnet_trt import __version__
from hsnet_trt.cli.app import app as serve_app
from hsnet_trt.cli.benchmark import benchmark
from hsnet_trt.cli.build_engine import build_engine
from hsnet_trt.cli.calibrate import calibrate
from hsnet_trt.cli.calibrate_presence import calibrate_presence
from hsnet_trt.cli.demo import demo
from hsnet_trt.cli.doctor import doctor
from hsnet_trt.cli.estimate import estimate
from hsnet_trt.cli.evaluate import evaluate
from hsnet_trt.cli.evaluate_video import evaluate_video
from hsnet_trt.cli.export import export
from hsnet_trt.cli.export_triton import export_triton
from hsnet_trt.cli.inspect_bundle import inspect
from hsnet_trt.cli.random_checkpoint import random_checkpoint
from hsnet_trt.cli.segment import segment
from hsnet_trt.cli.sensitivity import sensitivity
from hsnet_trt.cli.shared.groups import flatten
from hsnet_trt.cli.shared.places import explain
from hsnet_trt.cli.sweep import sweep
from hsnet_trt.cli.train import train
from hsnet_trt.cli.verify import verify
from hsnet_trt.cli.video import video
from hsnet_trt.errors import HSNetError, HSNetWarning

app = typer.Typer(
    name="hsnet-trt",
    help="HSNet few-shot segmentation, from a PyTorch checkpoint to TensorRT engines and masks.",
    epilog="To begin: hsnet-trt export --checkpoint shipped --out bundle, then hsnet-trt segment "
    "bundle photograph.jpg --support mug=mug.jpg,mug_mask.png",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# As `--help` groups them: what a verb is for.
VERBS = {
    "Begin": (demo, doctor, inspect),
    "Make a bundle": (export, calibrate, calibrate_presence, sensitivity, build_engine),
    "Segment and serve": (segment, video, serve_app, sweep, export_triton),
    "Judge": (verify, benchmark, estimate, evaluate, evaluate_video),
    "Learn": (train, random_checkpoint),
}
for purpose, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=purpose)(flatten(verb))


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"hsnet-trt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)


def main() -> None:
    """Run the command. An `HSNetError` is shown as its summary, details and fix; exit code 1."""
    warnings.showwarning = _show_warning
    with _termination_as_ctrl_c() as signals:
        _run(signals)


def _run(signals: list[int]) -> None:
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        app()
    except SystemExit as ended:
        if ended.code == 130:  # Ctrl-C, of which typer says nothing
            _stopped(signals)
        raise
    except HSNetError as error:
        _stop(str(error))
    except ModuleNotFoundError as error:
        _stop(
            f"{error.name} is not installed\n"
            f"  fix:      {_remedy(error.name or '', verb)}, or see `hsnet-trt doctor`"
        )
    except KeyboardInterrupt:
        _stopped(signals)
    except OSError as error:
        _stop(explain(error))


@contextmanager
def _termination_as_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does: a recording is kept, scratch removed.

    So a service manager or a container ends it, or a connection that breaks. Yields a list that
    then holds the signal. A signal that is ignored, as by nohup, stays ignored.
    """
    signals: list[int] = []
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [n for n in (getattr(signal, name) for name in names) if _is_default(n)]

    def stop(number: int, frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    def restore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, stop)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=restore)
    try:
        yield signals
    finally:
        restore()


def _is_default(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_DFL


def _stopped(signals: list[int]) -> NoReturn:
    """End as a shell expects it after Ctrl-C or the signal."""
    typer.secho("stopped", err=True)
    sys.exit(128 + (signals[0] if signals else signal.SIGINT))


# The extras that install a module. The one named as the verb is suggested, else the first.
_EXTRAS = {
    "torch": ("export", "train"),
    "onnx": ("export", "calibrate"),
    "onnxscript": ("export",),
    "polygraphy": ("export",),
    "tensorrt_rtx": ("rtx",),
    "tensorrt": ("trt",),
    "pycuda": ("cuda",),
    "matplotlib": ("calibrate", "demo"),
    "skimage": ("data", "calibrate", "train", "demo"),
    "cv2": ("data", "calibrate", "train", "video", "app"),
    "tensorboard": ("train",),
    "tritonclient": ("triton",),
    "ray": ("sweep",),
    "pyarrow": ("sweep",),
    "pycocotools": ("labels", "sweep"),
    "starlette": ("app",),
    "uvicorn": ("app",),
}


def _remedy(module: str, verb: str) -> str:
    extras = _EXTRAS.get(module.split(".", maxsplit=1)[0])
    if extras is None:
        return f"pip install {module}"
    return f"pip install 'hsnet-trt[{verb if verb in extras else extras[0]}]'"


def _stop(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    sys.exit(1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    if issubclass(category, HSNetWarning):
        typer.secho(f"warning: {message}", fg="yellow", err=True)


if __name__ == "__main__":
    main()
