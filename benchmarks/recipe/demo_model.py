"""The recipe of the shipped model: gather, learn for some minutes, judge, and write the card.

    pip install -e '.[recipe]'
    apt-get install tuxpaint-stamps-default gcompris-qt-data npm
    python -m hsnet_trt.benchmarks.recipe.demo_model --out learned --minutes 150

learns on a CPU (two cores: 150 minutes) or a GPU (an H100: 6 minutes). The backbone is
EfficientNet-Lite0 with ImageNet's weights, frozen as in the paper; the squeeze network is learned
from scratch, or from `--start-from` a checkpoint. A second call goes on where the first one was
stopped; the minutes count learning alone. Whatever real-v1 or the demo shows is in no source.

`--gather-only` gathers the pictures and packs them into WORK/pictures.tar, for a machine without a
network: put the file into the same WORK there, and run the same command. It needs torch, NumPy,
Pillow, OpenCV and scikit-image there, and neither typer nor TensorBoard.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.benchmarks.recipe.sources import gather_all, sources
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.training.keeping import LAST
from hsnet_trt.training.loop import Trained, train
from hsnet_trt.training.reporting import LOG, Lines
from hsnet_trt.training.settings import Part, Settings, speed_settings

SIZE = 400  # that episodes are drawn at, and the model is judged at
# Sides, shares of the batches, episodes in each: what fills an H100, and what two cores bear.
SIZES = {
    "cuda": (Part(256, 0.45, 40), Part(320, 0.30, 24), Part(400, 0.25, 14)),
    "cpu": (Part(256, 0.60, 4), Part(320, 0.25, 3), Part(400, 0.15, 2)),
}
# A pool gives `batch` episodes a step, of which one in `reuse` is fresh.
BATCH = {"cuda": (40, 20), "cpu": (4, 4)}
CONTRAST = 5.0  # weight of the background contrast at the start; learned with the rest
# Small batches disturb what was learned more: a CPU goes on from a checkpoint at a lower rate.
RATE = {"scratch": {"cuda": 1e-3, "cpu": 1e-3}, "tuned": {"cuda": 3e-4, "cpu": 1e-4}}
_VALIDATE = {"cuda": 1000, "cpu": 500}
_VALIDATION_EPISODES = {"cuda": 300, "cpu": 60}


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/recipe/learned"))
    parser.add_argument("--work", type=Path, default=Path("runs/recipe"), help="for all the rest")
    parser.add_argument(
        "--minutes", type=float, help="of learning; by default 6 on a GPU, 150 else"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start-from", type=Path, help="a checkpoint; 'shipped' is the shipped one"
    )
    parser.add_argument("--gather-only", action="store_true", help="and pack what was gathered")
    chosen = parser.parse_args()
    packed = chosen.work / "pictures.tar"
    if packed.is_file() and not (chosen.work / "pictures").is_dir():
        with tarfile.open(packed) as archive:
            archive.extractall(chosen.work, filter="data")
    root = gather_all(chosen.work)
    if chosen.gather_only:
        with tarfile.open(packed, "w") as archive:
            archive.add(root, "pictures")
        print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB")
        return
    settings = settings_of(root, chosen.minutes, chosen.seed, chosen.start_from)
    command = " ".join(["python -m hsnet_trt.benchmarks.recipe.demo_model", *sys.argv[1:]])
    run = chosen.work / "run"
    trained = train(settings, run, resume=(run / LAST).is_file(), bar=Lines(), command=command)
    write_card(trained, settings, run, chosen.out, command)


def settings_of(
    root: Path, minutes: float | None, seed: int, start_from: Path | None = None
) -> Settings:
    """The settings of a run on this machine."""
    speed = speed_settings(None, precision=None, compile=False)
    device = "cuda" if speed["device"].startswith("cuda") else "cpu"
    batch, reuse = BATCH[device]
    if start_from is not None and str(start_from) == "shipped":
        start_from = SHIPPED
    return Settings(
        data=("mixture",),
        root=root,
        backbone="efficientnet_lite0",
        # Its own file holds ImageNet's weights as they were published, rounded to 16 bits.
        backbone_weights=None if start_from else SHIPPED,
        start_from=start_from,
        contrast=None if start_from else CONTRAST,
        size=(SIZE, SIZE),
        sizes=SIZES[device],
        steps=10_000_000,
        minutes=minutes or (6 if device == "cuda" else 150),
        batch=batch,
        learning_rate=RATE["tuned" if start_from else "scratch"][device],
        clip=1.0,
        average=0.998,
        schedule="cosine",
        both_ways=True,
        augment=True,
        reuse=reuse,
        seed=seed,
        validate_every=_VALIDATE[device],
        validation_episodes=_VALIDATION_EPISODES[device],
        **speed,
    )


def write_card(trained: Trained, settings: Settings, run: Path, out: Path, command: str) -> None:
    """OUT gets model.pt (16 bits), model.json (its card) and the log of its losses."""
    out.mkdir(parents=True, exist_ok=True)
    model = load_checkpoint(trained.checkpoint)
    progress = json.loads((run / LOG).read_text(encoding="utf-8").splitlines()[-1])
    card: dict[str, Any] = {
        "model": "HSNet on EfficientNet-Lite0, FP16 storage; backbone frozen",
        "command": command,
        "size": SIZE,
        "sizes": [part.side for part in settings.sizes or ()],
        "refine": True,  # masks' edges, by the runtime
        "seed": settings.seed,
        "steps": trained.steps,
        "best_step": trained.step,
        "minutes": settings.minutes,
        "last_of_log": progress,
        "validation_miou": trained.miou,
        "device": _device_name(settings.device),
        "torch": str(torch.__version__),
        "settings": settings.facts(),
        "sources": sources(),
        "left_out": "all that real-v1 and the demo show, by hash and by name: "
        "benchmarks/recipe/left_out.py",
    }
    save_checkpoint(
        model, out / "model.pt", half=True, size=SIZE, sizes=card["sizes"], refine=card["refine"]
    )
    card["weights_sha256"] = weights_sha256(load_checkpoint(out / "model.pt"))
    (out / LOG).write_bytes((run / LOG).read_bytes())
    (out / "model.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: validation mIoU {trained.miou:.1f}; judge it with")
    print(f"python -m hsnet_trt.benchmarks.real_v1.judge {out / 'model.pt'} --out {out / 'judge'}")


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name())
    import platform

    return f"CPU, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
