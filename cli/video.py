"""`hsnet-trt video`: frames of a camera, a video or a folder in, the same with overlays out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsnet_trt.cli.shared.options import BundleArgument, RunOptions
from hsnet_trt.cli.shared.places import check_installed, check_kept
from hsnet_trt.cli.shared.shots import SupportOptions
from hsnet_trt.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from hsnet_trt.cli.shared.tracks import TrackFiles
    from hsnet_trt.runtime.cameras.source import FrameSource
    from hsnet_trt.runtime.stream import FrameStream


def video(
    bundle: BundleArgument,
    *,
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            help="camera:0, csi:0 (a Jetson's), rtsp://..., gst:PIPELINE, a video, or a folder.",
        ),
    ],
    output: Annotated[
        str, typer.Option(help="A video file, a folder, or window (end it with q).")
    ] = "out.mp4",
    objects: SupportOptions,
    memory: Annotated[
        int,
        typer.Option(
            min=0,
            max=16,
            help="How many frames with a confident answer each class keeps as more shots.",
        ),
    ] = 0,
    steady: Annotated[
        bool | None,
        typer.Option(
            help="Look closer at what is followed, and average the scores over time, along the "
            "motion. By default, unless the input is a folder."
        ),
    ] = None,
    instances: Annotated[
        bool, typer.Option(help="Give each thing an id that stays, and draw its box.")
    ] = False,
    tracks: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the things of each frame: NAME.jsonl as COCO's annotations, NAME.txt as "
            "MOT's results. May be repeated; implies --instances."
        ),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Write what entered and left, as JSON lines; implies --instances."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    reconnect: Annotated[
        float, typer.Option(min=0, help="How many seconds to wait for a camera that drops out.")
    ] = 30.0,
    run: RunOptions,
) -> None:
    """Segment a video or a live camera, and draw the masks over it.

    Late frames of a camera are dropped, frames of a file never. A frame that fails is written
    without an overlay. In a folder of photographs, what does not count as present is not drawn.
    A camera that goes away is opened again. Ctrl-C, SIGTERM or SIGHUP ends it and keeps the
    recording, and so does a camera that stays away; of a file, no half-written copy is left.
    """
    from hsnet_trt.cli.shared.console import plain_console
    from hsnet_trt.cli.shared.tracks import TrackFiles
    from hsnet_trt.cli.shared.video_files import check_sink, open_sink
    from hsnet_trt.runtime.cameras.source import open_source
    from hsnet_trt.runtime.device.telemetry import Telemetry
    from hsnet_trt.runtime.video.closer import CROP
    from hsnet_trt.runtime.video.memory import Memory

    followed = bool(instances or tracks or events is not None)
    check_sink(output)
    shots = objects.read()
    _check_kept(output, [*(tracks or ()), *filter(None, [events])], [input_, *objects.files(shots)])
    _check_libraries(followed or bool(steady), tracks or ())
    console = plain_console(stderr=True)
    source = open_source(input_, patience=reconnect)
    with ExitStack() as files, run.load(bundle, console) as segmenter:
        if steady is None:
            steady = source.rate is not None or source.live
        objects.give(segmenter, shots, CROP if steady else None)
        things = TrackFiles(tracks or (), events, source.rate) if followed else None
        if things is not None:
            files.enter_context(things)
        sink = open_sink(output, source.rate)
        kept = False
        try:
            stream = segmenter.stream(
                source.frames,
                drop="oldest" if source.live else None,
                color="bgr",
                memory=Memory(memory) if memory else None,
                steady=steady,
                scores=bool(tracks),
            )
            with stream, Telemetry() as telemetry:
                try:
                    _run(stream, source, sink, limit, console, things)
                finally:
                    source.ended.set()
            kept = True
            if telemetry.summary:
                units = {"watts": "W", "gpu_mhz": "MHz", "celsius": "°C at most"}
                values = [f"{v:.1f} {units[n]}" for n, v in telemetry.summary.items()]
                console.print(f"GPU: {', '.join(values)} ({telemetry.source})", highlight=False)
        except KeyboardInterrupt:
            if not source.live:
                raise
            kept = True  # how one ends a camera
        except BaseException:
            kept = source.live  # what a camera showed until then cannot be had again
            raise
        finally:
            sink.close(keep=kept)
    if output != "window":
        typer.echo(output)


def _check_libraries(followed: bool, tracks: Sequence[Path]) -> None:
    """Refuse what a frame would need later and is not installed."""
    if followed:
        check_installed("cv2")
    if any(path.suffix.lower() == ".jsonl" for path in tracks):
        check_installed("pycocotools")


def _check_kept(output: str, records: list[Path], read: list[str | os.PathLike[str]]) -> None:
    """Refuse a picture, a video or a record that would overwrite another one or what is read."""
    if len({path.absolute() for path in records}) < len(records):
        raise InputError("two records have one name", found=", ".join(map(str, records)))
    target = Path(output)
    outputs = [] if output == "window" else [target]
    if target.is_dir():
        names = [Path(path).name for path in read]
        outputs += [target / name for name in names if re.fullmatch(r"\d{6,}\.jpg", name)]
    check_kept([*outputs, *records], read)


def _run(
    stream: FrameStream,
    source: FrameSource,
    sink: Any,
    limit: int | None,
    console: Console,
    things: TrackFiles | None,
) -> None:
    """Draw and write frame by frame, with a progress bar; print counts and times at the end."""
    import time

    from hsnet_trt.cli.shared.progress import progress_bars
    from hsnet_trt.runtime.pictures.overlay import draw_overlay

    failed, done, dropped, start = 0, 0, 0, time.perf_counter()
    totals: dict[str, float] = {}
    total = min(filter(None, (source.count, limit)), default=None)
    with progress_bars(console, stays=True) as progress:
        task = progress.add_task("frames", total=total)
        try:
            for frame in stream:
                dropped = frame.dropped
                if frame.error is not None:
                    failed += 1
                    if failed <= 3:
                        progress.console.print(f"frame {frame.index}: {frame.error.summary}")
                picture = frame.image
                if frame.result is not None and picture is not None:
                    there = frame.result.only_present()
                    # Of a video, small things would be taken for absent: docs/video.md.
                    still = source.rate is None and not source.live
                    shown = there if still or things is not None else frame.result
                    image, picture = picture, draw_overlay(picture, shown)
                    if things is not None:
                        things.add(there, image, frame.index, picture)
                    for step, ms in frame.result.timing.items():
                        totals[step] = totals.get(step, 0.0) + ms
                done += 1
                rate = done / (time.perf_counter() - start)
                progress.update(task, advance=1, description=f"frames, {rate:.1f} a second")
                if picture is not None and not sink.write(picture):
                    break
                if done == limit:
                    break
        finally:
            spent = time.perf_counter() - start
            good = done - failed
            if done:
                steps = ", ".join(f"{s} {ms / max(1, good):.1f}" for s, ms in totals.items())
                console.print(
                    f"{done} frames in {spent:.1f} s, {done / spent:.1f} a second, "
                    f"{failed} failed, {dropped} dropped  ({steps} ms)",
                    highlight=False,
                )
    if done in (0, failed):
        raise InputError(
            "no frame could be segmented",
            expected="frames that can be decoded",
            found=f"{done} frames, {failed} of them failed",
            fix="look at the input with another program",
        )
