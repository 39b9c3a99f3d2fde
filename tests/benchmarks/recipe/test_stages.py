"""The recipe's stages follow one another, go on where they were stopped, and are in the card."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hsnet_trt.benchmarks.recipe import demo_model, stages
from hsnet_trt.benchmarks.recipe.stages import settings_of, stages_of
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint
from hsnet_trt.training import loop
from hsnet_trt.training.settings import Part, Settings


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("tuned", [False, True])
def test_stages_share_the_minutes_and_end_at_the_size_of_the_model(
    device: str, tuned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "device_kind", lambda: device)
    start = SHIPPED if tuned else None
    made = [settings_of(s, tmp_path, 30.0, 7, start) for s in stages_of(device, tuned)]
    assert sum(s.minutes or 0 for s in made) == pytest.approx(30)
    assert made[-1].size == (400, 400)
    for settings in made:
        assert sum(part.share for part in settings.sizes or ()) == pytest.approx(1)
        assert (settings.backbone_weights is None) == tuned


def test_stages_draw_other_episodes(tmp_path: Path) -> None:
    made = [settings_of(stage, tmp_path, 30.0, 7) for stage in stages_of("cpu", tuned=False)]
    assert len({settings.seed for settings in made}) == len(made) == 2


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", None])
def test_a_processor_that_computes_in_bf16_does(
    flag: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "device_kind", lambda: "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True, "avx2": True})
    settings = settings_of(stages_of("cpu", tuned=False)[0], tmp_path, 1.0, 0)
    assert settings.precision == ("bf16" if flag else "fp32")


def tiny(stage: stages.Stage, *known: Any) -> Settings:
    """What a stage learns, of drawn things at 64 x 64 and for nine steps."""
    settings = settings_of(stage, *known)
    return dataclasses.replace(
        settings, data=("procedural",), size=(64, 64), sizes=(Part(64, 1.0, 2),), batch=2, reuse=2,
        steps=9, validate_every=3, validation_episodes=2, workers=0, precision="fp32",
    )  # fmt: skip


def test_a_recipe_that_was_stopped_between_stages_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_model, "settings_of", tiny)
    monkeypatch.setattr(demo_model, "device_kind", lambda: "cpu")
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    seen: list[tuple[str, Path | None, bool]] = []
    learning = loop.train

    def train(settings: Settings, out: Path, *, resume: bool, **others: Any) -> None:
        seen.append((out.name, settings.start_from, resume))
        learning(settings, out, resume=resume, **others)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo_model, "train", train)
    with pytest.raises(KeyboardInterrupt):
        demo_model.learn(tmp_path, tmp_path / "run", 30.0, 0, None, "command")
    small = tmp_path / "run/small/best.pt"
    before = small.read_bytes()
    folders = demo_model.learn(tmp_path, tmp_path / "run", 30.0, 0, None, "command")
    assert seen == [("small", None, False), ("large", small, False), ("large", small, True)]
    assert small.read_bytes() == before

    demo_model.write_card(folders, 30.0, 0, tmp_path / "out", "command")
    card = json.loads((tmp_path / "out/model.json").read_text())
    assert list(card["stages"]) == ["small", "large"] and card["size"] == 400
    assert card["stages"]["large"]["settings"]["start_from"] == str(small)
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [stage for stage, _ in itertools.groupby(line["stage"] for line in lines)] == [
        "small", "large",
    ]  # fmt: skip
    made, large = (
        load_checkpoint(tmp_path / "out/model.pt"),
        load_checkpoint(folders[-1] / "best.pt"),
    )
    for name, value in large.hpn_learner.state_dict().items():
        torch.testing.assert_close(
            made.state_dict()[f"hpn_learner.{name}"], value, rtol=1e-3, atol=1e-6
        )
    assert made.refine and made.contrast is not None
    assert made.self_support is not None and large.self_support is None
    assert float(made.self_support.weight.detach()) == card["self_support"] == stages.SELF_SUPPORT

    demo_model.write_card(folders, 30.0, 0, tmp_path / "mean", "command", small)
    mean, first = load_checkpoint(tmp_path / "mean/model.pt"), load_checkpoint(small)
    for name, value in large.hpn_learner.state_dict().items():
        wanted = (value + first.state_dict()[f"hpn_learner.{name}"]) / 2
        torch.testing.assert_close(
            mean.state_dict()[f"hpn_learner.{name}"], wanted, rtol=1e-3, atol=1e-6
        )


def test_pictures_are_unpacked_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of a complete folder is among the first of its files."""
    source, work = tmp_path / "source", tmp_path / "work"
    (source / "photographs").mkdir(parents=True)
    work.mkdir()
    for name in ("gathered", "photographs/1.jpg"):
        (source / name).write_bytes(b"x")
    packed = work / "pictures.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(source, "pictures")

    def stopped(archive: tarfile.TarFile, path: Path, **options: Any) -> None:
        archive.extract("pictures/gathered", path, filter="data")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tarfile.TarFile, "extractall", stopped)
        demo_model.unpack(packed, work)
    assert [path.name for path in work.iterdir()] == ["pictures.tar"]
    demo_model.unpack(packed, work)
    assert (work / "pictures/photographs/1.jpg").is_file()
