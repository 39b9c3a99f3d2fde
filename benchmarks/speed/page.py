"""A record as a page: the machine, the targets, and a table for each case."""

from __future__ import annotations

from collections.abc import Sequence

from hsnet_trt.benchmarks.speed.contenders import BASELINE
from hsnet_trt.benchmarks.speed.race import MODES, SpeedRow
from hsnet_trt.benchmarks.speed.record import Record
from hsnet_trt.benchmarks.speed.scaling import Scale, summary
from hsnet_trt.benchmarks.speed.targets import Verdict, judge

_TITLES = {
    ("stream", "latency"): "Latency of a query, one at a time, its support registered before",
    ("episode", "latency"): "Latency of an episode: support and query both new",
    ("stream", "throughput"): "Throughput: frames streamed, the support registered before",
}


def markdown(record: Record) -> str:
    """The page: the machine, the targets, then a table for each case."""
    lines = [f"# Speed: {machine_line(record)}", "", f"    {record.command}", ""]
    lines += [f"**{warning}.**\n" for warning in record.warnings]
    lines += _targets(record)
    for case in dict.fromkeys(row.case for row in record.rows):
        lines += [f"## {case}", ""]
        for workload, mode in MODES:
            rows = [
                r for r in record.rows if (r.case, r.workload, r.mode) == (case, workload, mode)
            ]
            if rows:
                lines += [f"*{_TITLES[workload, mode]}*", "", *_table(rows), ""]
    lines += _scaling(record.scaling) + _explained(record)
    return "\n".join(lines) + "\n"


def machine_line(record: Record) -> str:
    """The machine, in one line."""
    m = record.machine
    parts = [*m["gpus"], f"{m['cpu']}, {m['cores']} cores ({', '.join(m['instructions'])})"]
    return "; ".join(parts)


def our_name(record: Record) -> str:
    """The bundle contender that the targets are judged by: the first one measured."""
    names = [row.contender for row in record.rows if not row.contender.startswith("PyTorch")]
    return names[0] if names else ""


def _targets(record: Record) -> list[str]:
    verdicts = judge(record.rows, our_name(record))
    if all(v.outcome == "not measured" for v in verdicts):
        return []
    lines = ["## Targets", "", "| target | wanted | measured | |", "|---|---|---|---|"]
    return [*lines, *(_target_line(v) for v in verdicts), ""]


def _target_line(verdict: Verdict) -> str:
    t, found = verdict.target, verdict.speedup
    against = "its FP32" if t.against == "fp32" else t.against
    measured = ""
    if found is not None:
        measured = f"{found.median:.2f} x ({found.low:.2f} to {found.high:.2f})"
    why = f": {verdict.why}" if verdict.why else ""
    return (
        f"| {t.precision} {t.workload}, {t.shots}-shot, mask {t.area:.0%}, against {against} "
        f"| {t.wanted:g} x | {measured} | **{verdict.outcome}**{why} |"
    )


def _table(rows: Sequence[SpeedRow]) -> list[str]:
    joules = any(row.joules is not None for row in rows)
    device = any(row.device_bytes is not None for row in rows)
    head = [
        "contender",
        "median ms",
        "p90",
        "p99",
        "calls",
        "spread",
        "per second",
        "times faster (95 %)",
        "of attainable",
        "floor ms",
        "memory MB",
        *(["device MB"] if device else []),
        *(["J a query"] if joules else []),
        "scores differ",
        "mask differs",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in sorted(rows, key=lambda r: -r.times.median):
        t, roof, s = row.times, row.roofline, row.speedup
        cells = [
            f"{row.contender} {row.precision}",
            f"{'~' if t.noisy else ''}{t.median:.1f}",
            f"{t.p90:.1f}",
            f"{t.p99:.1f}",
            str(t.calls),
            f"{t.spread:.0%}",
            f"{row.per_second:.2f}",
            "" if s is None else f"{s.median:.2f} ({s.low:.2f} to {s.high:.2f})",
            "" if roof is None else f"{roof.reached:.0%}",
            "" if roof is None else f"{roof.floor_ms:.0f} ({roof.bound})",
            _megabytes(row.host_bytes),
            *([_megabytes(row.device_bytes)] if device else []),
            *([f"{row.joules:.2f}" if row.joules is not None else ""] if joules else []),
            "" if row.score_difference is None else f"{row.score_difference:.1e}",
            "" if row.mask_difference is None else f"{row.mask_difference:.3%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _scaling(found: Sequence[Scale]) -> list[str]:
    if not found:
        return []
    lines = [
        "## Scaling",
        "",
        *(f"- {line}" for line in summary(found)),
        "",
        "| | case | times as many | ms a query | times as long | memory MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.what} | {s.case} | {s.times:.3g} | {s.milliseconds:.1f} | {s.growth:.3g} "
        f"| {_megabytes(s.host_bytes)} |"
        for s in found
    ]
    return [*lines, ""]


def _explained(record: Record) -> list[str]:
    m, rates = record.machine, record.rates
    reached = ", ".join(
        f"{kind} {rate / 1e9:.0f} G{'OP' if kind.startswith('int') else 'FLOP'}/s"
        for kind, rate in rates.items()
        if kind != "copy"
    )
    lines = [
        "## How it was measured",
        "",
        f"- {m['date']}, revision {m['revision']}, {m['platform']}, Python {m['python']}, "
        + ", ".join(f"{name} {version}" for name, version in m["packages"].items()),
        f"- clock {m['mhz']} MHz, governor {m['governor'] or 'not known'}, "
        f"{'a virtual machine' if m['virtual'] else 'not virtual'}, {m['memory_gb']} GB; "
        f"others used {_share(record.bystanders)} of the processor meanwhile",
        f"- the machine's own best: {reached}; copies {rates.get('copy', 0) / 1e9:.1f} GB/s",
        f"- {record.effort.rounds} rounds; in each every contender has its turn, in shuffled "
        "order, each in a process of its own, of at least "
        f"{record.effort.seconds} s, where calls are short after one that is not counted",
        "- spread: interquartile range of the rounds' medians over their median. With fewer than "
        "100 calls p99 is little more than the slowest one",
        "- of attainable: the least time that the counted work of this repository's own graphs can "
        "take at the machine's rates (products at the GEMM rate, or weights, inputs and outputs at "
        "the copy rate), over the median. Work that a contender does twice does not count",
        "- memory: the largest of the whole process, libraries included",
        f"- energy: {record.energy_source or 'not measured: this machine has no counter'}",
        "- scores differ: the largest difference of foreground probability to "
        f"{BASELINE}'s, on one query",
    ]
    for name, facts in record.facts.items():
        lines.append(f"- {name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    lines += [f"- not timed: {name}: {why}" for name, why in record.refused.items()]
    return lines


def _share(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.0%}"


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"
