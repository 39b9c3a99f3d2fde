"""The judge's table of a checkpoint or a bundle: clean, mosaic and absent together.

    python -m hsnet_trt.benchmarks.real_v1.judge shipped --photographs runs/real-v1 --out runs/judge

`make judge` does the same. Every photograph is the query once. It takes half an hour on two cores
at 400 x 400. Each finished form is kept, so a second call does only the rest (`--form` does one).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsnet_trt.benchmarks.accuracy.judging import judge
from hsnet_trt.benchmarks.real_v1.photographs import gather
from hsnet_trt.data.episodes.forms import FORMS
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint, weights_sha256
from hsnet_trt.runtime.bundle import MANIFEST, Bundle

_EVERY = 20  # episodes between two lines of progress


def main() -> None:
    """Judge the forms, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a checkpoint, a bundle, or 'shipped'")
    parser.add_argument("--photographs", type=Path, default=Path("runs/real-v1"))
    parser.add_argument("--out", type=Path, default=Path("runs/judge"))
    parser.add_argument("--form", choices=FORMS, action="append", help="by default all")
    parser.add_argument("--size", type=int, help="by default the model's own")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        help="whether masks' edges are refined; by default as the model says",
    )
    parser.add_argument("--device", default="cpu", help="of PyTorch")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)  # fails now, not after half an hour
    root = gather(chosen.photographs)
    weights = weights_of(chosen.model)
    for form in chosen.form or FORMS:
        if not is_judged(chosen.out / form, _command(form, root, chosen), weights):
            judge_form(form, root, chosen)
    # Other forms there may be of another model.
    done = [
        form
        for form in FORMS
        if is_judged(chosen.out / form, _command(form, root, chosen), weights)
    ]
    text = table(chosen.out, done)
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def weights_of(model: Path) -> str:
    """The hash of the weights to be judged."""
    if (model / MANIFEST).is_file():
        return Bundle.open(model).manifest.model.weights_sha256
    return weights_sha256(load_checkpoint(SHIPPED if str(model) == "shipped" else model))


def is_judged(folder: Path, command: str, weights: str) -> bool:
    """Whether a folder holds the result of this command for these weights."""
    path = folder / "accuracy.json"
    if not path.is_file():
        return False
    facts = json.loads(path.read_text("utf-8"))["facts"]
    return (facts["command"], facts["weights_sha256"]) == (command, weights)


def _command(form: str, root: Path, chosen: argparse.Namespace) -> str:
    options = f" --size {chosen.size}" if chosen.size else ""
    if chosen.refine is not None:
        options += " --refine" if chosen.refine else " --no-refine"
    return (
        f"hsnet-trt evaluate {chosen.model} --data folder --root {root} --form {form}"
        f" --shots {chosen.shots}{options}"
    )


def judge_form(form: str, root: Path, chosen: argparse.Namespace) -> None:
    """Judge one form of the episodes, with the report in OUT/FORM."""

    def say(what: str, done: int, total: int) -> None:
        if done % _EVERY == 0:
            print(f"{what}: {done} of {total}", flush=True)

    judge(
        chosen.model,
        Source(("folder",), root=root, shots=chosen.shots),
        chosen.out / form,
        size=(chosen.size, chosen.size) if chosen.size else None,
        refine=chosen.refine,
        device=chosen.device,
        form=form,
        command=_command(form, root, chosen),
        on_episode=say,
    )


def table(out: Path, forms: Sequence[str]) -> str:
    """The figures of the judged `forms`, as Markdown. Raises InputError if there are none."""
    judged = {form: json.loads((out / form / "accuracy.json").read_text("utf-8")) for form in forms}
    if not judged:
        raise InputError(f"nothing is judged in {out}", expected="FORM/accuracy.json")
    any_one = next(iter(judged.values()))
    lines = [
        f"real-v1, {any_one['episodes']} queries, {any_one['shots']} shots, "
        f"{any_one['size'][0]} x {any_one['size'][1]}; 95 % intervals.",
        "",
        "| form | queries | mIoU | best trivial answer | ahead | boundary IoU |",
        "|---|---|---|---|---|---|",
    ]
    for form in ("clean", "mosaic"):
        if form in judged:
            lines.append(_line(form, judged[form]))
    found = {form: judged[form]["rows"][0] for form in ("absent", "clean") if form in judged}
    if found:
        lines += ["", "| something is found | of all queries |", "|---|---|"]
    if "absent" in found:
        lines.append(f"| where the class is absent | {_percent(found['absent']['found'])} |")
    if "clean" in found:
        lines.append(f"| where it is present (clean) | {_percent(found['clean']['found'])} |")
    return "\n".join(lines) + "\n"


def _line(form: str, judged: dict[str, Any]) -> str:
    network = judged["rows"][0]
    trivial = [row for row in judged["rows"] if row["trivial"]]
    best = max(trivial, key=lambda row: row["miou"]["value"])
    ahead = network["miou"]["value"] - best["miou"]["value"]
    return (
        f"| {form} | {judged['episodes']} | {_interval(network['miou'])} "
        f"| {best['miou']['value']:.1f}, {best['name']} "
        f"| {ahead:+.1f} | {_interval(network['boundary'])} |"
    )


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


def _percent(figure: dict[str, float]) -> str:
    return f"{_interval(figure)} %"


if __name__ == "__main__":
    main()
