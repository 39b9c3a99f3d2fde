"""The threshold from which a class counts as present: against all thresholds, and in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.data_sets.tiny_sets import write_folder
from PIL import Image
from typer.testing import CliRunner

from hsnet_trt.calibration.presence import (
    calibrate_presence,
    choose_threshold,
    presence_of,
    threshold_keeping,
)
from hsnet_trt.cli.main import app
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.network import Network


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_answers_more_rightly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    there, absent = rng.normal(0.6, 0.15, 30).clip(0, 1), rng.normal(0.35, 0.15, 50).clip(0, 1)
    found = choose_threshold(there.tolist(), absent.tolist())
    assert found.kept == (there >= found.value).mean()
    assert found.silent == (absent < found.value).mean()
    best = max((there >= t).mean() + (absent < t).mean() for t in np.linspace(0, 1, 20001))
    assert found.kept + found.silent == pytest.approx(best)


def test_scores_that_lie_apart_are_parted_in_the_middle() -> None:
    found = choose_threshold([0.6, 0.9], [0.1, 0.4])
    assert found.value == pytest.approx(0.5) and (found.kept, found.silent) == (1, 1)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_no_higher_threshold_keeps_as_many(share: float) -> None:
    rng = np.random.default_rng(2)
    there, absent = rng.random(37), rng.random(20)
    found = threshold_keeping(there.tolist(), absent.tolist(), share)
    assert found.kept == (there >= found.value).mean() >= share
    assert found.silent == (absent < found.value).mean()
    higher = np.unique([*there, *absent, 1.1])
    assert all((there >= t).mean() < share for t in higher[higher > found.value][1:])


def test_the_command_keeps_it_in_the_bundle(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "b")
    root = write_folder(tmp_path / "set", classes=2, images=5, size=SIZE)
    command = ["calibrate-presence", str(path), "--data", f"folder:{root}", "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "new")], catch_exceptions=False)
    assert result.exit_code == 0
    kept = Bundle.open(tmp_path / "new")
    kept.check()
    network = Network.load(path)
    episodes = Source(("folder",), root=root, size=SIZE).open("test")
    found = calibrate_presence(network, episodes)
    assert kept.manifest.present_from == found.value
    assert kept.manifest.commands[-1].startswith("hsnet-trt")
    assert Bundle.open(path).manifest.present_from == 0
    assert kept.manifest.files == Bundle.open(path).manifest.files
    assert found.there[0] == presence_of(network, episodes[0])
    assert 0 <= found.value <= 1 and len(found.there) == len(found.absent) == len(found.there)
    with pytest.raises(InputError, match="so few"):
        calibrate_presence(network, episodes, 3)
    network.close()


def test_all_there_are_may_have_one_whose_object_vanishes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", images=6, size=(300, 300))
    speck = np.zeros((300, 300), np.bool_)
    speck[1, 1] = True  # between the pixels that are taken
    for number in (1, 2):
        Image.fromarray(speck).save(root / f"class0/{number}.png")
    network = Network.load(make_bundle(tmp_path / "bundle"))
    found = calibrate_presence(network, Source(("folder",), root=root, size=SIZE).open("test"))
    assert 8 <= len(found.there) < 12 and 8 <= len(found.absent) < 12
    network.close()
