"""The recipe of the model that is shipped: train, judge, and write it down, in one command.

    python -m hsnet_trt.benchmarks.demo_model --out shipped --minutes 120

From a source tree, with PYTHONPATH at its root, it needs torch, numpy, Pillow, OpenCV and
scikit-image, onnxruntime for the judging, and neither typer nor TensorBoard. A second call goes on
where the first one was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.benchmarks.judging import judge
from hsnet_trt.data.sources import Source
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.training.keeping import LAST
from hsnet_trt.training.loop import Trained, train
from hsnet_trt.training.reporting import LOG, Lines
from hsnet_trt.training.settings import Settings, speed_settings

# Of four episodes, three are drawn and one is cut out of photographs.
DATA = ("procedural", "procedural", "procedural", "photo-cut")
# scikit-image's own photographs, as its wheel brings them; not the motorcycles, which the demo
# shows. No code, drawings or text.
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip
_MEASURED_STEPS = 40  # to learn how fast it goes; the first half warms up
_VALIDATIONS = 8  # per stage


@dataclass(frozen=True)
class Stage:
    """A part of the training; each begins with the best network of the one before."""

    side: int  # pixels
    batch: int
    learning_rate: float
    share: float  # of the minutes
    reuse: int


STAGES = {
    "cpu": (Stage(96, 16, 1e-3, 0.7, 1), Stage(128, 8, 3e-4, 0.3, 1)),
    # Sixteen processors draw some 600 episodes of 128 pixels a second.
    "cuda": (Stage(128, 256, 1e-3, 0.6, 16), Stage(192, 128, 3e-4, 0.4, 16)),
}
JUDGED_SIDE = {"cpu": 128, "cuda": 192}


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is kept")
    parser.add_argument("--work", type=Path, default=Path("runs/demo_model"), help="for the rest")
    parser.add_argument("--minutes", type=float, default=120, help="of training, all stages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--photographs", type=Path, help="a folder of them; scikit-image's own")
    parser.add_argument("--judged", type=int, default=1000, help="episodes of each judgement")
    chosen = parser.parse_args()
    speed = speed_settings(None)
    device = "cuda" if speed["device"].startswith("cuda") else "cpu"
    chosen.work.mkdir(parents=True, exist_ok=True)
    photographs = chosen.photographs or gather_photographs(chosen.work / "photographs")
    command = " ".join(["python -m hsnet_trt.benchmarks.demo_model", *sys.argv[1:]])

    before: Trained | None = None
    for number, stage in enumerate(STAGES[device], start=1):
        folder = chosen.work / f"stage{number}"
        settings = Settings(
            data=DATA, root=photographs, backbone=chosen.backbone, train_backbone=True,
            start_from=before.checkpoint if before else None, size=(stage.side, stage.side),
            batch=stage.batch, learning_rate=stage.learning_rate, schedule="cosine",
            both_ways=True, augment=stage.reuse > 1, reuse=stage.reuse, seed=chosen.seed + number,
            validation_episodes=400, **speed,
        )  # fmt: skip
        settings = with_steps(settings, 60 * chosen.minutes * stage.share, folder)
        resume = (folder / LAST).is_file()
        before = train(settings, folder, resume=resume, bar=Lines(), command=command)
    assert before is not None
    write_down(before, chosen, photographs, device, command)


def gather_photographs(folder: Path) -> Path:
    """Copy scikit-image's photographs into a folder of their own."""
    import skimage

    folder.mkdir(parents=True, exist_ok=True)
    source = Path(skimage.__file__).parent / "data"
    for name in PHOTOGRAPHS:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    return folder


def with_steps(settings: Settings, seconds: float, folder: Path) -> Settings:
    """As many steps as the time allows, by a measurement that is made once and kept."""
    kept = folder.with_suffix(".json")
    if kept.is_file():
        steps = int(json.loads(kept.read_text())["steps"])
    else:
        trial = dataclasses.replace(
            settings, steps=_MEASURED_STEPS, validate_every=_MEASURED_STEPS, validation_episodes=1
        )
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            train(trial, Path(scratch), bar=Lines())
            lines = [json.loads(line) for line in Path(scratch, LOG).read_text().splitlines()]
        rate = [line["episodes_per_second"] for line in lines if "loss" in line][-1]
        steps = max(_VALIDATIONS, int(seconds * rate / settings.batch))
        kept.write_text(json.dumps({"steps": steps, "episodes_per_second": rate}))
    return dataclasses.replace(settings, steps=steps, validate_every=-(-steps // _VALIDATIONS))


def write_down(
    trained: Trained, chosen: argparse.Namespace, photographs: Path, device: str, command: str
) -> None:
    """OUT gets the model in 16 bits, the log of all stages, and what the model was judged to be."""
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    side = JUDGED_SIDE[device]
    model = load_checkpoint(trained.checkpoint)
    stages = [json.loads(path.read_text()) for path in sorted(chosen.work.glob("stage*.json"))]
    facts: dict[str, Any] = {
        "command": command, "seed": chosen.seed, "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "stages": stages,
        "size": side, "validation_miou": trained.miou,
        "photographs": sorted(path.name for path in photographs.iterdir()),
    }  # fmt: skip
    save_checkpoint(model, out / "model.pt", half=True, **facts)
    logs = sorted(chosen.work.glob(f"stage*/{LOG}"))
    (out / LOG).write_text("".join(path.read_text() for path in logs))
    tables = []
    for name, shots in (("procedural", 1), ("procedural", 5), ("photo-cut", 1)):
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
