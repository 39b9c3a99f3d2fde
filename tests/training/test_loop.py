"""Whole runs: what is learned, from where, and what stops them."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import pytest
import torch
from helpers.command import hsnet
from helpers.training_runs import Quiet, losses
from PIL import Image

from hsnet_trt.errors import HSNetError, InputError
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint
from hsnet_trt.model.recipe import recipe_model
from hsnet_trt.training import loop
from hsnet_trt.training.loop import train
from hsnet_trt.training.settings import Settings


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
    learned = load_checkpoint(trained.checkpoint)
    assert learned.trained and learned.size == (64, 64)
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


def test_the_backbone_is_that_of_the_checkpoint_to_start_from(small: Settings) -> None:
    named = dataclasses.replace(small, start_from=Path("shipped"), backbone=None)
    assert loop.first_model(named).name == "mobilenet_v2"
    assert loop.first_model(dataclasses.replace(small, backbone=None)).name == "resnet50"


def test_the_command_takes_a_folder_as_the_other_verbs_do(tmp_path: Path) -> None:
    options = ("--data", "folder:pictures", "--start-from", "shipped", "--workers", 1)
    done = hsnet("train", "--out", "run", *options, folder=tmp_path)
    assert done.returncode == 1 and "there is no folder pictures" in done.stderr, done.stderr


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


@pytest.mark.parametrize("train_backbone", [False, True])
def test_what_a_checkpoint_says_of_its_network_is_kept(
    small: Settings, tmp_path: Path, train_backbone: bool
) -> None:
    """But for the threshold of presence, which is of the backbone before."""
    given = tmp_path / "given.pt"
    save_checkpoint(recipe_model("resnet18"), given, refine=True, present_from=0.25)
    settings = dataclasses.replace(
        small, start_from=given, train_backbone=train_backbone, steps=1, validation_episodes=2
    )
    train(settings, tmp_path / "run", bar=Quiet())
    for name in ("best.pt", "last.pt"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about entries that are not known
            learned = load_checkpoint(tmp_path / "run" / name)
        assert learned.refine and learned.size == (64, 64), name
        assert learned.present_from == (0.0 if train_backbone else 0.25), name


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


def test_a_loss_that_is_not_finite_stops_the_run(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "normalise", lambda images: images.float() * float("nan"))
    with pytest.raises(HSNetError, match="nan after 3 steps"):
        train(small, tmp_path / "run", bar=Quiet())
    assert not (tmp_path / "run/best.pt").exists()
