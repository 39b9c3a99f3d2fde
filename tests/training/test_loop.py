from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.places import ROOT
from PIL import Image

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.errors import CheckpointError, HSNetError, InputError
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.training import loop
from hsnet_trt.training.augmentation import augment
from hsnet_trt.training.averaging import Average
from hsnet_trt.training.loop import learning_rate, train
from hsnet_trt.training.objective import Objective
from hsnet_trt.training.settings import Part, Settings
from hsnet_trt.training.supply import batches_of, views


class Quiet:
    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at, self.notes = stop_at, []

    def update(self, step: int, total: int, figures: str) -> None:
        if step == self.stop_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        pass


def state(path: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimizer's memory."""
    kept = torch.load(path, weights_only=True)
    moments = {
        f"{index} {name}": value
        for index, memory in kept["optimizer"]["state"].items()
        for name, value in memory.items()
    }
    return {**kept["state_dict"], **moments}


def assert_twins(one: Path, other: Path) -> None:
    a, b = state(one / "last.pt"), state(other / "last.pt")
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "episodes_per_second"}
            for line in (out / "log.jsonl").read_text().splitlines()
        ]
        for out in (one, other)
    ]
    assert logs[0] == logs[1]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_learning_from_nothing_lowers_the_loss_and_finds_the_objects(
    small: Settings, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        small, steps=40, batch=4, validate_every=20, schedule="cosine", both_ways=True
    )
    bar = Quiet()
    trained = train(settings, tmp_path / "run", bar=bar, command="hsnet-trt train")
    found = losses(tmp_path / "run")
    assert found[-1] < 0.6 * found[0]
    assert trained.miou > 40
    assert trained.checkpoint == tmp_path / "run" / "best.pt"
    assert load_checkpoint(trained.checkpoint).trained
    facts = torch.load(trained.checkpoint, weights_only=True)["facts"]
    assert facts["validation_miou"] == trained.miou
    assert facts["command"] == "hsnet-trt train" and facts["settings"]["size"] == [64, 64]
    # Four rows of support, truth and answer.
    assert Image.open(tmp_path / "run" / "episodes.png").size == (3 * 160, 4 * 160)
    assert sum("mIoU" in note for note in bar.notes) == 2


def test_drawn_and_mixed_episodes_are_learned_from(tmp_path: Path) -> None:
    settings = Settings(
        data=("procedural", "procedural"),
        backbone="resnet18",
        train_backbone=True,
        size=(64, 64),
        batch=2,
        steps=2,
        validate_every=2,
        validation_episodes=3,
        workers=1,
    )
    assert train(settings, tmp_path / "run", bar=Quiet()).steps == 2


def test_an_interrupted_run_ends_as_its_twin(small: Settings, tmp_path: Path) -> None:
    """With everything on that draws random numbers; a killed one, plain, is below."""
    settings = dataclasses.replace(
        small, augment=True, both_ways=True, schedule="cosine", reuse=2, workers=1
    )
    train(settings, tmp_path / "whole", bar=Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", bar=Quiet(stop_at=4))
    assert torch.load(tmp_path / "cut/last.pt", weights_only=True)["facts"]["progress"]["step"] == 3
    train(settings, tmp_path / "cut", bar=Quiet(), resume=True)
    assert_twins(tmp_path / "whole", tmp_path / "cut")


def test_a_killed_command_ends_as_its_twin(
    small: Settings, tmp_path: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(small, steps=9, validate_every=3)
    arguments = [
        "train",
        "--data",
        "folder",
        "--root",
        str(blobs),
        "--backbone",
        "resnet18",
        "--train-backbone",
        "--size",
        "64",
        "--batch",
        "2",
        "--steps",
        "9",
        "--validate-every",
        "3",
        "--validation-episodes",
        "4",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "killed"),
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "hsnet_trt.cli.main", *arguments],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed/last.pt").is_file() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    trained = train(settings, tmp_path / "killed", bar=Quiet(), resume=True)
    assert trained.steps == 9
    train(settings, tmp_path / "whole", bar=Quiet())
    assert_twins(tmp_path / "whole", tmp_path / "killed")


def test_the_papers_way_leaves_the_backbone_as_it_is(small: Settings, tmp_path: Path) -> None:
    given = recipe_model("resnet18")
    weights = {
        k.removeprefix("backbone."): v
        for k, v in given.state_dict().items()
        if k.startswith("backbone.")
    }
    torch.save(weights, tmp_path / "resnet18-torchvision.pth")
    settings = dataclasses.replace(
        small, train_backbone=False, backbone_weights=tmp_path / "resnet18-torchvision.pth"
    )
    train(settings, tmp_path / "run", bar=Quiet())
    learned = torch.load(tmp_path / "run/last.pt", weights_only=True)["state_dict"]
    first = loop.first_model(settings).state_dict()
    same = {key for key in learned if torch.equal(learned[key], first[key])}
    assert same >= {key for key in learned if key.startswith("backbone.")}
    # Level 4 has 2 x 2 positions here and may miss an object; level 2 and the decoder do not.
    for part in ("encoder_layer2.0.conv1", "encoder_layer3to2.6.conv1", "decoder2.2"):
        assert f"hpn_learner.{part}.weight" not in same


def test_a_run_starts_from_a_checkpoint(small: Settings, tmp_path: Path) -> None:
    given = recipe_model("resnet18")
    save_checkpoint(given, tmp_path / "given.pt")
    settings = dataclasses.replace(small, start_from=tmp_path / "given.pt")
    first = loop.first_model(settings).state_dict()
    assert all(torch.equal(first[key], value) for key, value in given.state_dict().items())


def test_the_first_weights_follow_from_the_seed_alone(small: Settings) -> None:
    before = torch.random.get_rng_state()
    one, two = (loop.first_model(small).state_dict() for _ in range(2))
    other = loop.first_model(dataclasses.replace(small, seed=1)).state_dict()
    key = "hpn_learner.decoder2.2.weight"
    assert torch.equal(one[key], two[key]) and not torch.equal(one[key], other[key])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_frozen_random_backbone_is_refused(small: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backbone"):
        train(dataclasses.replace(small, train_backbone=False), tmp_path / "run", bar=Quiet())
    assert not (tmp_path / "run").exists()


def test_folders_are_not_confused(small: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(small, steps=1, validate_every=1)
    with pytest.raises(InputError, match="no run"):
        train(settings, tmp_path / "run", bar=Quiet(), resume=True)
    train(settings, tmp_path / "run", bar=Quiet())
    with pytest.raises(InputError, match="holds a run already"):
        train(settings, tmp_path / "run", bar=Quiet())
    with pytest.raises(InputError, match="other settings") as caught:
        train(dataclasses.replace(settings, seed=5), tmp_path / "run", bar=Quiet(), resume=True)
    assert "seed 0, now 5" in str(caught.value)
    # A state can be used as weights, too.
    assert load_checkpoint(tmp_path / "run/last.pt").name == "resnet18"
    whole = (tmp_path / "run/last.pt").read_bytes()
    (tmp_path / "run/last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(settings, tmp_path / "run", bar=Quiet(), resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "normalise", lambda images: images.float() * float("nan"))
    with pytest.raises(HSNetError, match="nan after 3 steps"):
        train(small, tmp_path / "run", bar=Quiet())
    assert not (tmp_path / "run/best.pt").exists()


def test_the_cosine_schedule_rises_and_ends_at_nothing(small: Settings) -> None:
    settings = dataclasses.replace(small, steps=100, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    assert rates[-1] < 0.001
    assert learning_rate(dataclasses.replace(settings, schedule="constant"), 77) == 1.0


@pytest.fixture
def pooled(small: Settings) -> Settings:
    """Of two sizes, from a pool, with averaged weights."""
    return dataclasses.replace(
        small, batch=4, reuse=2, size=(80, 80), sizes=(Part(64, 0.5, 3), Part(80, 0.5, 2)),
        average=0.9, clip=1.0, schedule="cosine", augment=True, both_ways=True,
    )  # fmt: skip


def test_batches_of_several_sizes_come_from_one_pool(pooled: Settings) -> None:
    device = torch.device("cpu")
    shapes = [
        tuple(views(batch, pooled, step)[0].shape)
        for step, batch in enumerate(
            batches_of(dataclasses.replace(pooled, steps=20), 0, device, Skipped())
        )
    ]
    assert set(shapes) == {(6, 3, 64, 64), (4, 3, 80, 80)} and len(shapes) == 20


def test_a_run_of_several_sizes_resumes_as_if_it_had_not_stopped(
    pooled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(pooled, steps=6, validate_every=2)
    train(settings, tmp_path / "whole", bar=Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", bar=Quiet(stop_at=4))
    train(settings, tmp_path / "parts", bar=Quiet(), resume=True)
    assert_twins(tmp_path / "whole", tmp_path / "parts")
    means = [torch.load(tmp_path / name / "last.pt", weights_only=True)["average"]
             for name in ("whole", "parts")]  # fmt: skip
    assert means[0] and all(torch.equal(a, b) for a, b in zip(*means, strict=True))


def test_a_budget_of_time_ends_a_run_and_a_second_call_has_the_rest(
    pooled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at the clock is a second later than the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    settings = dataclasses.replace(pooled, minutes=0.5, steps=1000, validate_every=500)
    trained = train(settings, tmp_path / "run", bar=Quiet())
    assert 5 < trained.steps < 40 and trained.checkpoint.is_file()
    again = train(settings, tmp_path / "run", bar=Quiet(), resume=True)
    assert again.steps <= trained.steps + 1


def test_the_rate_follows_the_time_where_time_is_the_budget(pooled: Settings) -> None:
    settings = dataclasses.replace(pooled, minutes=1, learning_rate=1.0)
    rates = [learning_rate(settings, 1000, seconds) for seconds in (0, 30, 60, 70)]
    assert rates == pytest.approx([1.0, 0.51, 0.02, 0.02])
    assert learning_rate(settings, 0, 0) == pytest.approx(1 / 150)


def test_sizes_without_a_pool_are_refused(small: Settings) -> None:
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, sizes=(Part(48, 1.0, 2),))
    with pytest.raises(InputError, match="shrunk from a pool"):
        dataclasses.replace(small, batch=4, reuse=2, sizes=(Part(80, 1.0, 2),))


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average([weight], 0.5)
    values = [1.0, 5.0, 2.0]
    mean = 0.0
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        keep = min(0.5, step / (step + 10))
        mean = keep * mean + (1 - keep) * value
    assert average.means[0].tolist() == pytest.approx([mean] * 3)
    with average.in_place():
        assert weight.tolist() == pytest.approx([mean] * 3)
    assert weight.tolist() == [2.0] * 3


def test_a_pair_that_asks_for_nothing_is_not_learned_from() -> None:
    """The query of an absent class has an empty mask; as a support it would ask for nothing."""
    model = recipe_model("resnet18")
    objective = Objective(model, train_backbone=False, both_ways=True).eval()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(4, 64, 64, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    masks[0] = False  # the first query
    found = objective(images, masks)
    one_way = Objective(model, train_backbone=False, both_ways=False).eval()
    pairs = [one_way(images[[q, s]], masks[[q, s]]) for q, s in ((0, 2), (1, 3), (3, 1))]
    assert found.item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-4)


def test_pictures_of_nothing_are_augmented_too() -> None:
    images = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
    nothing = torch.zeros(1, 32, 32, dtype=torch.bool)
    seen, masks = augment(images, nothing, torch.Generator().manual_seed(1))
    whole = torch.ones(1, 32, 32, dtype=torch.bool)
    other, _ = augment(images, whole, torch.Generator().manual_seed(1))
    assert torch.equal(seen, other) and not masks.any()
