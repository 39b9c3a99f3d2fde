"""The report of a video evaluation: video.json, video.md, video.jpg and video.webp (animated)."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from hsnet_trt import __version__
from hsnet_trt.benchmarks.accuracy.video import (
    STEADY,
    Follow,
    FollowRow,
    VideoJudgement,
    answered,
)
from hsnet_trt.data.drawn.videos import Video, Videos
from hsnet_trt.data.episodes.contours import contour
from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.data.episodes.files import resize_image, resize_mask
from hsnet_trt.data.episodes.metrics import Interval
from hsnet_trt.data.episodes.video_metrics import SOON, plain
from hsnet_trt.data.sheet import ANSWER, TRUTH
from hsnet_trt.files import replacing

_CELLS, _ACROSS = 24, 6  # pictures on the sheet, and in each of its rows
_WIDTH = 200  # pixels of a picture on the sheet
_MOVING = 320  # pixels of a picture in the animation
_RATE = 12  # frames per second of the animation
Shown: TypeAlias = tuple[Image, Mask, Mask, str]  # picture, answer, truth, caption
_MEASURES = {
    "j": "J, %", "f": "F, %", "flicker": "flicker, %", "missed": "missed, %",
    "denied": "absence declared wrongly, %", "shown_absent": "shown while absent, %",
    "absence": "frames until absence is noticed",
    "absence_soon": f"noticed within {SOON} frames, %", "again": "frames until found again",
    "again_soon": f"found within {SOON} frames, %",
}  # fmt: skip


def table(
    judgement: VideoJudgement, times: dict[str, float] | None = None, *, intervals: bool = True
) -> tuple[list[str], list[list[str]]]:
    """The heads of the columns, and one row of text for each measure.

    Args:
        judgement: the result.
        times: way -> milliseconds per frame; they are shown relative to the first.
        intervals: whether to show intervals with the values.
    """
    heads = ["", *(row.name for row in judgement.rows)]
    rows = [
        [text, *(_cell_text(getattr(r.figures, name), name, intervals) for r in judgement.rows)]
        for name, text in _MEASURES.items()
    ]
    if times and len(times) > 1:
        first = next(iter(times.values()))
        ratios = [f"{times[n] / first:.2f}" if n in times else "" for n in heads[1:]]
        rows.append(["time a frame, frame by frame = 1", *ratios])
    return heads, rows


def _cell_text(value: Interval | None, measure: str, intervals: bool) -> str:
    if value is None:
        return ""
    digits = 2 if measure == "flicker" else 1
    if not intervals:
        return f"{value.value:.{digits}f}"
    low, high = f"{value.low:.{digits}f}", f"{value.high:.{digits}f}"
    return f"{value.value:.{digits}f} [{low}, {high}]"


def markdown(
    judgement: VideoJudgement, times: dict[str, float], on: str, date: str, command: str
) -> str:
    """The result as a Markdown page."""
    height, width = judgement.size
    heads, rows = table(judgement, times)
    drawn = _drawn(judgement)
    lines = [
        f"# {judgement.data}, {judgement.shots}-shot", "",
        f"{len(judgement.videos)} videos of {judgement.frames} frames, {height} x {width}, seed "
        f"{judgement.seed}; {on}; {date}. Intervals hold 95 % of 1000 bootstrap draws of videos.",
        "", *([f"    {command}", ""] if command else []),
        f"| {' | '.join(heads)} |", "|---" * len(heads) + "|",
        *(f"| {' | '.join(row)} |" for row in rows), "",
        f"## Per video, {drawn.name}", "",
        "| video | object | J | F | flicker |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for (name, kind), score in zip(judgement.videos, drawn.scores, strict=True):
        there, could = max(score.there, 1), max(score.could_change, 1)
        figures = f"{100 * score.j / there:.1f} | {100 * score.f / there:.1f}"
        lines.append(f"| {name} | {kind} | {figures} | {100 * score.changed / could:.2f} |")
    shown = judgement.videos[judgement.median(drawn)][0]
    lines += ["", "![the video of the median J](video.jpg)", "",
              f"{shown}, the video of the median J: the first support, then frames with the truth "
              f"in green and the answers in red: {drawn.name}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _drawn(judgement: VideoJudgement) -> FollowRow:
    """The way whose answers are drawn: the steady one, else the first."""
    return next((row for row in judgement.rows if row.name == STEADY), judgement.rows[0])


def write_video_report(
    judgement: VideoJudgement,
    ways: Mapping[str, Follow],
    videos: Videos,
    out: Path,
    *,
    times: dict[str, float],
    on: str,
    command: str,
) -> None:
    """Write the four files into a folder; each replaces an older one only when complete.

    Args:
        judgement: the result.
        ways: the judged ways; the answers of the steady one, else of the first, are on the sheet
            and in the animation.
        videos: the judged videos.
        out: the folder.
        times: way -> milliseconds per frame; stored with the facts, because only the other figures
            are reproducible.
        on: what ran the network, as text.
        command: the command line.
    """
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    content = {
        **dataclasses.asdict(dataclasses.replace(judgement, rows=())),
        "rows": [
            {
                "name": row.name,
                "figures": dataclasses.asdict(row.figures),
                "videos": [plain(score) for score in row.scores],
            }
            for row in judgement.rows
        ],
        "facts": {
            "command": command,
            "on": on,
            "date": date,
            "hsnet_trt": __version__,
            "milliseconds": times,
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    drawn = _drawn(judgement)
    video = videos[judgement.median(drawn)]
    shown = [
        (
            frame.image,
            answer.mask,
            frame.truth,
            f"{number}" if frame.visible else f"{number}, absent",
        )
        for number, (frame, answer) in enumerate(answered(ways[drawn.name], video))
    ]
    with replacing(out / "video.jpg") as scratch:
        sheet(video, shown).save(scratch, quality=80)
    first, *others = animation(video, shown)
    with replacing(out / "video.webp") as scratch:
        first.save(
            scratch, save_all=True, append_images=others, duration=1000 // _RATE, loop=0, quality=50
        )
    for name, text in (
        ("video.json", json.dumps(content, indent=1) + "\n"),
        ("video.md", markdown(judgement, times, on, date, command)),
    ):
        with replacing(out / name) as scratch:
            scratch.write_text(text, encoding="utf-8")


def sheet(video: Video, shown: Sequence[Shown]) -> PILImage.Image:
    """Draw the first support, then evenly spaced frames with truth and answer outlined."""
    numbers = np.linspace(0, len(shown) - 1, _CELLS - 1).astype(int)
    frames = [_framed(*shown[n], width=_WIDTH) for n in sorted({*numbers})]
    cells = [_support(video, _WIDTH), *frames]
    rows = [
        np.concatenate(cells[first : first + _ACROSS], axis=1)
        for first in range(0, len(cells) - len(cells) % _ACROSS, _ACROSS)
    ]
    return PILImage.fromarray(np.concatenate(rows, axis=0))


def animation(video: Video, shown: Sequence[Shown]) -> list[PILImage.Image]:
    """The frames with truth and answer outlined, each beside the first support."""
    support = _support(video, _MOVING)
    pictures = (_framed(*frame, width=_MOVING) for frame in shown)
    return [PILImage.fromarray(np.concatenate([support, p], axis=1)) for p in pictures]


def _support(video: Video, width: int) -> Image:
    """The first support, in the size of the frames."""
    nothing = np.zeros(video.supports.shape[1:3], np.bool_)
    return _framed(video.supports[0], nothing, video.support_masks[0], "support", width=width)


def _framed(picture: Image, answer: Mask, truth: Mask, text: str, *, width: int) -> Image:
    size = (round(width * picture.shape[0] / picture.shape[1]), width)
    image = resize_image(picture, size).copy()
    for mask, colour in ((answer, ANSWER), (truth, TRUTH)):
        line = contour(resize_mask(mask, size))
        wide = np.pad(line, 1)
        # A dark edge keeps the line visible on a picture of its own colour.
        image[wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]] = 0
        image[line] = colour
    drawn = PILImage.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, 0, pen.textlength(text) + 6, 13), fill=(0, 0, 0))
    pen.text((3, 1), text, fill=(255, 255, 255))
    return np.asarray(drawn, np.uint8)
