"""The recipe of the shipped model: gather pictures, train for some minutes, write the card.

    pip install -e '.[recipe]'
    apt-get install tuxpaint-stamps-default gcompris-qt-data npm
    python -m hsnet_trt.benchmarks.recipe.demo_model --out learned --minutes 90

It trains on a CPU (two cores: 90 minutes, small pictures first) or a GPU (an H100: 6 minutes). The
backbone is MobileNetV2 with ImageNet's weights, frozen as in the paper. The squeeze network is
trained from scratch, or from the checkpoint of `--start-from`: the result is then the mean of the
weights before and after (M. Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022),
which forgets less of what the episodes do not show. A second call resumes a stopped run; the
minutes count training only. Nothing that real-v1 or the demo shows is in any source.

`--gather-only` gathers the pictures and packs them into WORK/pictures.tar, for a machine without a
network: copy the file into the same WORK there, and run the same command. That machine needs torch,
NumPy, Pillow, OpenCV and scikit-image, but neither typer nor TensorBoard.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.benchmarks.recipe.sources import gather_all, sources
from hsnet_trt.benchmarks.recipe.stages import (
    MINUTES,
    SELF_SUPPORT,
    SIZE,
    device_kind,
    settings_of,
    stages_of,
)
from hsnet_trt.files import replacing
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint, save_checkpoint, weights_sha256
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.weights_file import read_weights_file
from hsnet_trt.training.keeping import BEST, LAST
from hsnet_trt.training.loop import train
from hsnet_trt.training.reporting import LOG, Lines


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/recipe/learned"))
    parser.add_argument("--work", type=Path, default=Path("runs/recipe"), help="for all the rest")
    parser.add_argument("--minutes", type=float, help="of learning; by default 6 on a GPU, 90 else")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start-from", type=Path, help="a checkpoint; 'shipped' is the shipped one"
    )
    parser.add_argument("--gather-only", action="store_true", help="and pack what was gathered")
    chosen = parser.parse_args()
    packed = chosen.work / "pictures.tar"
    if packed.is_file() and not (chosen.work / "pictures").is_dir():
        unpack(packed, chosen.work)
    root = gather_all(chosen.work)
    if chosen.gather_only:
        with replacing(packed) as scratch, tarfile.open(scratch, "w") as archive:
            archive.add(root, "pictures")
        print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB")
        return
    chosen.out.mkdir(parents=True, exist_ok=True)  # fails now, not after hours
    command = " ".join(["python -m hsnet_trt.benchmarks.recipe.demo_model", *sys.argv[1:]])
    start = SHIPPED if str(chosen.start_from) == "shipped" else chosen.start_from
    minutes = chosen.minutes or MINUTES[device_kind()]
    folders = learn(root, chosen.work / "run", minutes, chosen.seed, start, command)
    write_card(folders, minutes, chosen.seed, chosen.out, command, start)


def unpack(packed: Path, work: Path) -> None:
    """Unpack WORK/pictures, which `--gather-only` packed; a stopped call leaves no part of it."""
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=work) as scratch:
        with tarfile.open(packed) as archive:
            archive.extractall(scratch, filter="data")
        Path(scratch, "pictures").replace(work / "pictures")


def learn(
    root: Path, run: Path, minutes: float, seed: int, start: Path | None, command: str
) -> list[Path]:
    """Train stage after stage in folders of `run`, and return the folders; resumes a stopped run.

    A stage followed by a later one that has begun is complete: its best network is used as it is.
    """
    stages = stages_of(device_kind(), tuned=start is not None)
    folders = [run / stage.name for stage in stages]
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        if not any((later / LAST).is_file() for later in folders[number + 1 :]):
            settings = settings_of(stage, root, minutes, seed, start)
            resume = (folder / LAST).is_file()
            train(settings, folder, resume=resume, bar=Lines(), command=command)
        start = folder / BEST
    return folders


def write_card(
    folders: list[Path],
    minutes: float,
    seed: int,
    out: Path,
    command: str,
    start: Path | None = None,
) -> None:
    """Write model.pt (16 bits), model.json (its card) and the log of its losses into OUT.

    With `start`, the checkpoint that training started from, the weights are the mean of both.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = load_checkpoint(folders[-1] / BEST, self_support=SELF_SUPPORT)
    if start is not None:
        _average(model, load_checkpoint(start, self_support=SELF_SUPPORT))
    stages = {folder.name: read_weights_file(folder / LAST)["facts"] for folder in folders}
    last = stages[folders[-1].name]
    log = [
        json.dumps({"stage": folder.name, **json.loads(line)})
        for folder in folders
        for line in (folder / LOG).read_text(encoding="utf-8").splitlines()
    ]
    card: dict[str, Any] = {
        "model": "HSNet on MobileNetV2, FP16 storage; backbone frozen",
        "command": command,
        "size": SIZE,
        "sizes": [side for side, _, _ in last["settings"]["sizes"]],
        "self_support": SELF_SUPPORT,  # not learned
        "refine": True,  # masks' edges, by the runtime
        "seed": seed,
        "minutes": minutes,
        "validation_miou": last["progress"]["best_miou"],  # of the last stage alone
        "averaged_with_its_start": start is not None,
        "device": _device_name(),
        "torch": str(torch.__version__),
        "stages": stages,
        "sources": sources(),
        "left_out": "all that real-v1 and the demo show, by hash and by name: "
        "benchmarks/recipe/left_out.py",
    }
    save_checkpoint(
        model, out / "model.pt", half=True, size=SIZE, sizes=card["sizes"], refine=card["refine"]
    )
    card["weights_sha256"] = weights_sha256(load_checkpoint(out / "model.pt"))
    (out / LOG).write_text("\n".join(log) + "\n", encoding="utf-8")
    (out / "model.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: validation mIoU {card['validation_miou']:.1f}; judge it with")
    print(f"python -m hsnet_trt.benchmarks.real_v1.judge {out / 'model.pt'} --out {out / 'judge'}")


def _average(model: HSNet, other: HSNet) -> None:
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            mine.lerp_(its, 0.5)


def _device_name() -> str:
    if device_kind() == "cuda":
        return str(torch.cuda.get_device_name())
    import platform

    return f"CPU, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
