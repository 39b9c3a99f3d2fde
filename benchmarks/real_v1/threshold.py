"""Choose the score from which a class counts as present, on the judge's photographs.

    python -m hsnet_trt.benchmarks.real_v1.threshold shipped --keep

It is the highest score that keeps 95 % of the queries with the class, clean and mosaic together. It
depends only on the backbone and the supports, so weights that share a frozen backbone share it.
`--keep` writes it into the checkpoint and the card beside it. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.accuracy.answers import TorchNetwork
from hsnet_trt.benchmarks.real_v1.photographs import gather
from hsnet_trt.calibration.presence import Threshold, threshold_keeping
from hsnet_trt.data.episodes.forms import FORMS, in_form
from hsnet_trt.data.sources import Source
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint
from hsnet_trt.model.weights_file import read_weights_file, write_weights_file

_KEPT = 0.95
_EVERY = 20  # episodes between two lines of progress


def main() -> None:
    """Choose the threshold and print it; with `--keep`, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a checkpoint, or 'shipped'")
    parser.add_argument("--photographs", type=Path, default=Path("runs/real-v1"))
    parser.add_argument("--size", type=int, help="by default the model's own")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of PyTorch")
    parser.add_argument("--keep", action="store_true", help="write it into the checkpoint")
    chosen = parser.parse_args()
    path = SHIPPED if str(chosen.model) == "shipped" else chosen.model
    model = load_checkpoint(path)
    network = TorchNetwork(model, chosen.device)
    size = (chosen.size, chosen.size) if chosen.size else model.size or (400, 400)
    source = Source(("folder",), root=gather(chosen.photographs), shots=chosen.shots, size=size)
    scores = {form: scores_of(network, source, form) for form in FORMS}
    there = (*scores["clean"], *scores["mosaic"])
    found = rounded_down(threshold_keeping(there, scores["absent"], _KEPT))
    print(in_words(found, scores))
    if chosen.keep:
        keep(path, found)


def scores_of(network: TorchNetwork, source: Source, form: str) -> list[float]:
    """The presence scores with every photograph as the query once."""
    episodes = in_form(source.open("test"), form, source.seed)
    count, scores = episodes.count or 0, []
    for index in range(count):
        if index % _EVERY == 0:
            print(f"{episodes.name}: {index} of {count}", flush=True)
        scores.append(network.presence(episodes[index]))
    return scores


def rounded_down(found: Threshold) -> Threshold:
    """The threshold in thousandths, as it is kept; rounding up could lose some of what it keeps."""
    value = math.floor(1000 * found.value) / 1000
    return dataclasses.replace(
        found,
        value=value,
        kept=float(np.mean(np.array(found.there) >= value)),
        silent=float(np.mean(np.array(found.absent) < value)),
    )


def in_words(found: Threshold, scores: dict[str, list[float]]) -> str:
    """The threshold, and how often a class counts as present in each form, as text."""
    shares = (
        f"{form} {100 * np.mean(np.array(s) >= found.value):.1f}" for form, s in scores.items()
    )
    return f"present from {found.value:.3f}: in percent, {', '.join(shares)}"


def keep(path: Path, found: Threshold) -> None:
    """Write a threshold into a checkpoint and the card beside it; the weights do not change."""
    content: dict[str, Any] = read_weights_file(path)
    content["facts"]["present_from"] = found.value
    write_weights_file(content, path)
    card_path = path.with_suffix(".json")
    if card_path.is_file():
        card = json.loads(card_path.read_text("utf-8"))
        card["present_from"] = {
            "score": found.value,
            "what": "a class counts as present from this score; the highest that keeps 95 % of "
            f"{len(found.there)} queries with the class, of real-v1, clean and mosaic; "
            f"{100 * found.silent:.0f} % of {len(found.absent)} without it are silent",
        }
        card_path.write_text(json.dumps(card, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
