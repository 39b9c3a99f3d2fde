"""A record on disk (JSON, a page and a picture), and as the README's short table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.limits.case import Case
from hsnet_trt.benchmarks.speed.contenders import BASELINE
from hsnet_trt.benchmarks.speed.page import machine_line, markdown, our_name
from hsnet_trt.benchmarks.speed.race import SpeedRow
from hsnet_trt.benchmarks.speed.record import Record, as_json
from hsnet_trt.benchmarks.speed.targets import judge
from hsnet_trt.errors import InputError
from hsnet_trt.files import replacing

_BEGIN, _END = "<!-- speed: begin -->", "<!-- speed: end -->"


def write_report(record: Record, out: Path, name: str, plot: Path) -> list[Path]:
    """Write `<name>.json`, `<name>.md` and the plot; each replaces an older one when complete.

    Args:
        record: the result.
        out: the folder.
        name: of the files, from `machine_name`.
        plot: the picture's file, a PNG.

    Returns:
        the three files.
    """
    from hsnet_trt.benchmarks.speed.plot import draw

    out.mkdir(parents=True, exist_ok=True)
    plot.parent.mkdir(parents=True, exist_ok=True)
    files = [out / f"{name}.json", out / f"{name}.md"]
    for path, text in zip(files, _texts(record), strict=True):
        _replace(path, text)
    with replacing(plot) as scratch:
        draw(record, scratch)
    for path in _unfinished(out, name):
        path.unlink(missing_ok=True)
    return [*files, plot]


def keep_unfinished(record: Record, out: Path, name: str) -> None:
    """Write `<name>.unfinished.json` and `.md`, so that a stopped run leaves its results.

    `write_report` removes them.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path, text in zip(_unfinished(out, name), _texts(record), strict=True):
        _replace(path, text)


def machine_name(machine: dict[str, Any]) -> str:
    """A machine's name for a file: its GPU, or its processor and number of cores."""
    title = machine["gpus"][0].split(" (")[0] if machine["gpus"] else machine["cpu"]
    plain = re.sub(r"\(R\)|\(TM\)|processor|cpu", "", str(title), flags=re.IGNORECASE)
    plain = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return plain if machine["gpus"] else f"{plain}-{machine['cores']}-cores"


def block(record: Record, name: str) -> str:
    """The README's block: a short table, with command, machine and date."""
    ours = our_name(record)
    lines = [
        "| mask | shots | PyTorch eager, authors' order | ours | stream | episode |",
        "|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row.case for row in record.rows):
        if case.classes > 1 or case.batch > 1:
            continue
        found = {
            (r.contender, r.workload): r
            for r in record.rows
            if r.case == case and r.mode == "latency" and r.precision == "fp32"
        }
        base, stream, episode = (
            found.get(key) for key in ((BASELINE, "stream"), (ours, "stream"), (ours, "episode"))
        )
        if base is None or stream is None or episode is None:
            continue
        lines.append(
            f"| {case.area:.0%} | {case.shots} | {base.times.median:.0f} ms "
            f"| {stream.times.median:.0f} ms a query, {episode.times.median:.0f} ms an episode "
            f"| {_interval(stream)} | {_interval(episode)} |"
        )
    judged = [v for v in judge(record.rows, ours) if v.outcome != "not measured"]
    reached = sum(v.outcome == "reached" for v in judged)
    m = record.machine
    lines += [
        "",
        f"{record.rows[0].case.backbone} at {_size(record.rows[0].case)} in FP32 on "
        f"{machine_line(record)}, {m['date'][:10]}, by `{record.command}`; "
        f"ours is {ours}. Median of interleaved rounds, with the interval that holds the median "
        f"ratio with 95 % confidence. {reached} of {len(judged)} speed targets reached: "
        f"[all of it](benchmarks/results/{name}.md).",
        *(f"\n*{warning}.*" for warning in record.warnings),
    ]
    return "\n".join(lines)


def fill(page: str, text: str) -> str:
    """The page with the text between its two markers replaced.

    Raises:
        InputError: it has no such markers.
    """
    before, found, rest = page.partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not found or not ended:
        raise InputError(
            "the page has no place for the speeds", expected=f"{_BEGIN} ... {_END}", found="neither"
        )
    return f"{before}{_BEGIN}\n{text}\n{_END}{after}"


def _interval(row: SpeedRow) -> str:
    s = row.speedup
    return "" if s is None else f"**{s.median:.1f} x** ({s.low:.1f} to {s.high:.1f})"


def _size(case: Case) -> str:
    return f"{case.size[0]} x {case.size[1]}"


def _texts(record: Record) -> tuple[str, str]:
    return json.dumps(as_json(record), indent=1) + "\n", markdown(record)


def _unfinished(out: Path, name: str) -> tuple[Path, Path]:
    return out / f"{name}.unfinished.json", out / f"{name}.unfinished.md"


def _replace(path: Path, text: str) -> None:
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
