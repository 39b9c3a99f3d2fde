"""What the times of the correlation kernel say: a table, and whether the aims were reached."""

from __future__ import annotations

import json
from typing import Any

from hsnet_trt.benchmarks.gpu_check.plugin_timing import LEVELS
from hsnet_trt.benchmarks.limits.plugin_prediction import EARLIER


def earlier_kernels(gpu: str) -> dict[tuple[str, str, str], float]:
    """Milliseconds by type, level and mask of the kernels before, if they ran on such a GPU.

    These took whole supports, and packed them in every call.
    """
    timing = json.loads(EARLIER.read_text(encoding="utf-8"))["timing"]
    if timing["gpu"] != gpu:
        return {}
    return {(r["dtype"], r["level"], r["area"]): r["plugin_ms"] for r in timing["rows"]}


def table(timing: dict[str, Any]) -> str:
    """Return the rows as Markdown; a column of what was not measured for a row is empty there."""
    lines = [
        "| type | level | mask | plugin ms | kernels before ms | native ms | faster "
        "| native, rows padded ms | product ms | product, rows padded ms | FLOP floor ms "
        "| byte floor ms | of attainable | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    before = earlier_kernels(timing["gpu"])
    for row in timing["rows"]:
        known = before.get((row["dtype"], row["level"], row["area"]))
        names = ("native_padded_ms", "product_ms", "product_padded_ms")
        padding = " | ".join(f"{row[name]:.4f}" if name in row else "" for name in names)
        lines.append(
            f"| {row['dtype']} | {row['level']} | {row['area']} | {row['plugin_ms']:.4f} "
            f"| {'' if known is None else f'{known:.4f}'} | {row['native_ms']:.4f} "
            f"| {row['speedup']:.2f} x | {padding} "
            f"| {row['flop_floor_ms']:.4f} "
            f"| {row['byte_floor_ms']:.4f} | {row['share_of_attainable']:.0%} "
            f"| {row['largest_error']:.1e} |"
        )
    return "\n".join(lines)


def targets(timing: dict[str, Any], capability: str) -> list[str]:
    """Say of each speed that is aimed at whether it was reached, and if not, where.

    Args:
        timing: what `time_all` found.
        capability: compute capability of the GPU: what share of the attainable rate is aimed at
            depends on it.
    """
    share = 0.6 if capability in ("8.0", "8.6", "8.7", "8.9") else 0.4
    whole, upper, every = ("no mask", "100%"), ("level 2", "level 3"), tuple(LEVELS)
    areas = tuple({row["area"] for row in timing["rows"]})
    said = []
    for label, dtype, levels, chosen, limit, key in (
        ("FP16, full mask: 1.5 times native", "float16", every, whole, 1.5, "speedup"),
        ("FP16, 20 %: 4 times native, levels 2 and 3", "float16", upper, ("20%",), 4.0, "speedup"),
        ("FP16, 20 %: 2 times native, level 4", "float16", ("level 4",), ("20%",), 2.0, "speedup"),
        (
            f"FP16, level 2: {share:.0%} of the attainable rate",
            "float16",
            ("level 2",),
            ("no mask",),
            share,
            "share_of_attainable",
        ),
        ("FP32: never slower than native", "float32", every, areas, 1.0, "speedup"),
        ("FP16, rows padded: native 1.3 times", "float16", every, whole[:1], 1.3, "padding"),
    ):
        picked = [
            row
            for row in timing["rows"]
            if row["dtype"] == dtype and row["level"] in levels and row["area"] in chosen
            if key in row
        ]
        missed = [
            f"{row['level']} at {row['area']}: {row[key]:.2f}" for row in picked if row[key] < limit
        ]
        verdict = "not measured" if not picked else "reached" if not missed else "NOT reached"
        said.append(f"{label}: {verdict}" + (f" ({'; '.join(missed)})" if missed else ""))
    return said
