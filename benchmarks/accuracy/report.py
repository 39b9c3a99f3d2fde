"""The report of an evaluation: accuracy.json, accuracy.md and accuracy.png."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from hsnet_trt.benchmarks.accuracy.accuracy import SOMETHING, Accuracy, Row
from hsnet_trt.benchmarks.accuracy.answers import JudgedNetwork
from hsnet_trt.data.episodes.episode import Episodes
from hsnet_trt.data.episodes.files import resize_image, resize_mask
from hsnet_trt.data.sheet import ANSWER, TRUTH, outlined
from hsnet_trt.files import replacing

_CELL = 192  # pixels a side on the sheet


def write_report(
    accuracy: Accuracy,
    networks: Sequence[JudgedNetwork],
    episodes: Episodes,
    out: Path,
    facts: dict[str, Any],
) -> None:
    """Write the three files into a folder; each replaces an older one only when complete.

    Args:
        accuracy: the result.
        networks: the judged networks, which answer again for the sheet.
        episodes: the judged episodes.
        out: the folder.
        facts: plain facts for the JSON (the command, the weights' hash).
    """
    out.mkdir(parents=True, exist_ok=True)
    content = {**dataclasses.asdict(accuracy), "facts": facts}
    _replace(out / "accuracy.json", (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(accuracy, facts.get("command", ""))
    # Names of folders and files may hold bytes that are not UTF-8.
    _replace(out / "accuracy.md", page.encode("utf-8", "backslashreplace"))
    with replacing(out / "accuracy.png") as scratch:
        sheet(accuracy, networks, episodes).save(scratch)


def markdown(accuracy: Accuracy, command: str) -> str:
    """The result as a Markdown page of tables."""
    height, width = accuracy.size
    judged = "the queries' own size" if accuracy.original_size else f"{height} x {width}"
    lines = [
        f"# {accuracy.data}, {accuracy.shots}-shot",
        "",
        f"{accuracy.episodes} episodes, network input {height} x {width}, judged at {judged}. "
        "Intervals hold 95 % of 1000 bootstrap draws of episodes.",
        "",
        *([f"    {command}", ""] if command else []),
    ]
    absent = accuracy.form == "absent"
    if absent:
        lines += ["No query shows what its supports show.", ""]
    figures = (
        ("found in", "shown in", "of the pixels")
        if absent
        else ("mIoU", "FB-IoU", "boundary IoU", "difference")
    )
    columns = ("answers", *figures, "pixels changed", "ms per episode", "on")
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [_line(row, absent) for row in accuracy.rows]
    lines += [
        "",
        f"Something (at least {100 * SOMETHING:g} % of the picture) was found, right or "
        f"wrong, by {accuracy.rows[0].name} in {accuracy.rows[0].found} % of the queries; it is "
        f"shown in {accuracy.rows[0].shown} %, where the class counts as present.",
        "",
    ]
    if any(row.name.startswith("prototypes") for row in accuracy.rows):
        lines += [
            "Prototypes: nearer to the mean feature of the supports' objects than to that of "
            "the rest, at the backbone's stride.",
            "",
        ]
    best = accuracy.best_trivial
    if best is not None:
        ahead = accuracy.rows[0].miou.value - best.miou.value
        lines += [
            f"{accuracy.rows[0].name} is {ahead:+.1f} points from the best trivial answer, "
            f"{best.name}.",
            "",
        ]
    if accuracy.left_out:
        lines += [f"{len(accuracy.left_out)} left out:", ""]
        lines += [f"- {line}" for line in accuracy.left_out] + [""]
    networks = [row for row in accuracy.rows if not row.trivial]
    if not absent:
        lines += _per_class(networks)
    lines += [
        f"![{accuracy.shown_for}](accuracy.png)",
        "",
        f"The sheet: {accuracy.shown_for}. Left to right: the supports, the query with its "
        f"truth, then the answers of {', '.join(row.name for row in networks)}.",
    ]
    return "\n".join(lines) + "\n"


def _per_class(networks: Sequence[Row]) -> list[str]:
    lines = [
        "## Per class",
        "",
        f"| class | {' | '.join(row.name for row in networks)} |",
        "|---" * (len(networks) + 1) + "|",
    ]
    for name in networks[0].per_class:
        figures = " | ".join(f"{row.per_class[name]:.1f}" for row in networks)
        lines.append(f"| {name} | {figures} |")
    return [*lines, ""]


def _line(row: Row, absent: bool) -> str:
    difference = "" if row.difference is None else f"{row.difference:+.2f}"
    changed = "" if row.changed is None else f"{row.changed:.3f} %"
    # No time for trivial answers: the first prototypes compute the features for all.
    time = "" if row.trivial else f"{1000 * row.seconds:.0f}"
    shown = "" if row.shown is None else f"{row.shown} %"
    figures = (
        (f"{row.found} %", shown, f"{row.area:.1f} %")
        if absent
        else (f"{row.miou}", f"{row.fb_iou}", f"{row.boundary}", difference)
    )
    return f"| {' | '.join((row.name, *figures, changed, time, row.on))} |"


def sheet(
    accuracy: Accuracy, networks: Sequence[JudgedNetwork], episodes: Episodes
) -> PILImage.Image:
    """Draw the chosen episodes: supports, query with truth, and each network's answer."""
    rows = []
    for number in accuracy.shown:
        episode = episodes[number]
        size = (episode.query.shape[0], episode.query.shape[1])
        shown = [
            outlined(image, mask)
            for image, mask in zip(episode.supports, episode.support_masks, strict=True)
        ]
        shown.append(outlined(episode.query, resize_mask(episode.query_mask, size), TRUTH))
        for network in networks:
            answer = resize_mask(network.answer(episode), size)
            shown.append(outlined(episode.query, answer, ANSWER))
        rows.append(np.concatenate([resize_image(i, (_CELL, _CELL)) for i in shown], axis=1))
    return PILImage.fromarray(np.concatenate(rows, axis=0))


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as scratch:
        scratch.write_bytes(content)
