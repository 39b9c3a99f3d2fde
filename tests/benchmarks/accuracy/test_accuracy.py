"""How networks are judged on episodes: figures, tables, files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.data_sets.tiny_sets import write_folder, write_voc
from typer.testing import CliRunner

from hsnet_trt.benchmarks.accuracy.accuracy import evaluate
from hsnet_trt.benchmarks.accuracy.answers import TorchNetwork
from hsnet_trt.benchmarks.accuracy.judging import judge
from hsnet_trt.benchmarks.accuracy.report import markdown
from hsnet_trt.benchmarks.accuracy.trivial import Trivial
from hsnet_trt.cli.main import app
from hsnet_trt.data.episodes.episode import Episode, Episodes, Mask, Skipped
from hsnet_trt.data.episodes.forms import in_form
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet

SIZE = (64, 64)
pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker exports their bundle


def drawn(count: int, *, ignored: bool) -> list[Episode]:
    rng = np.random.default_rng(5)
    blank = np.zeros((8, 8, 3), np.uint8)
    return [
        Episode(
            query=blank,
            query_mask=rng.random((8, 8)) < 0.4,
            supports=blank[None],
            support_masks=np.ones((1, 8, 8), np.bool_),
            class_id=i % 3,
            class_name=f"c{i % 3}",
            ignore=rng.random((8, 8)) < 0.2 if ignored else None,
            query_name=str(i),
            support_names=("s",),
            original_size=(8, 8),
        )
        for i in range(count)
    ]


class Fake:
    """Answers its own mask for every episode."""

    def __init__(self, name: str, seed: int, episodes: list[Episode]) -> None:
        self.name, self.on, self.says_present = name, "nothing", True
        rng = np.random.default_rng(seed)
        self.answers = {e.query_name: rng.random((8, 8)) < 0.5 for e in episodes}

    def answer(self, episode: Episode) -> Mask:
        return self.answers[episode.query_name]

    def features(self, images: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("not wanted here")


def slow_miou(episodes: list[Episode], answers: dict[str, Mask]) -> tuple[float, float]:
    """mIoU and FB-IoU, pixel by pixel."""
    counts = {c: [0, 0] for c in range(3)}
    both = {0: [0, 0], 1: [0, 0]}
    for episode in episodes:
        for place in np.ndindex(episode.query_mask.shape):
            if episode.ignore is not None and episode.ignore[place]:
                continue
            truth, found = int(episode.query_mask[place]), int(answers[episode.query_name][place])
            counts[episode.class_id][0] += truth and found
            counts[episode.class_id][1] += truth or found
            for side in (0, 1):
                both[side][0] += truth == side and found == side
                both[side][1] += side in {truth, found}
    return (
        100 * sum(i / u for i, u in counts.values()) / 3,
        100 * sum(i / u for i, u in both.values()) / 2,
    )


@pytest.mark.parametrize("ignored", [False, True])
def test_figures_are_those_of_a_slow_count(ignored: bool) -> None:
    made = drawn(7, ignored=ignored)
    source = Episodes("drawn", {0: "c0", 1: "c1", 2: "c2"}, made.__getitem__, 7)
    one, two = Fake("one", 1, made), Fake("two", 2, made)
    foreground = Trivial("all foreground", lambda e: np.ones((8, 8), np.bool_))
    seen: list[int] = []
    accuracy = evaluate([one, two], [foreground], source, on_episode=lambda w, i, n: seen.append(i))
    first, second, third = accuracy.rows
    for row, fake in ((first, one), (second, two)):
        miou, fb_iou = slow_miou(made, fake.answers)
        assert row.miou.value == pytest.approx(miou) and row.fb_iou.value == pytest.approx(fb_iou)
        assert row.miou.low < row.miou.value < row.miou.high
    assert first.difference is None and first.changed is None and third.difference is None
    assert second.difference == pytest.approx(second.miou.value - first.miou.value)
    shares = []
    for episode in made:
        judged = np.ones((8, 8), bool) if episode.ignore is None else ~episode.ignore
        differ = (one.answers[episode.query_name] != two.answers[episode.query_name]) & judged
        shares.append((differ.sum(), judged.sum()))
    changed = np.array(shares)
    assert second.changed == pytest.approx(100 * changed[:, 0].sum() / changed[:, 1].sum())
    assert accuracy.shown[0] == int(np.argmax(changed[:, 0] / changed[:, 1]))
    assert len(accuracy.shown) == 6 and seen == list(range(8)) and accuracy.episodes == 7
    assert accuracy.best_trivial is third
    text = markdown(accuracy, "hsnet-trt evaluate")
    figures = f"{second.miou} | {second.fb_iou} | {second.boundary} | {second.difference:+.2f}"
    assert f"| two | {figures} |" in text
    assert f"| c1 | {first.per_class['c1']:.1f} | {second.per_class['c1']:.1f} |" in text


def test_an_episode_that_a_network_refuses_counts_for_none() -> None:
    made = drawn(7, ignored=False)
    source = Episodes("drawn", {0: "c0", 1: "c1", 2: "c2"}, made.__getitem__, 7)
    one, two = Fake("one", 1, made), Fake("two", 2, made)

    def refuse(episode: Episode) -> Mask:
        if episode.query_name == "2":
            raise InputError("the object of 2 is too small")
        return two.answers[episode.query_name]

    two.answer = refuse  # type: ignore[method-assign]
    with pytest.raises(InputError, match="too small"):
        evaluate([one, two], [], source)
    skipped = Skipped()
    first, second = evaluate([one, two], [], source, skip_bad=skipped).rows
    assert skipped.files == ["the object of 2 is too small: query 2, supports s"]
    rest = [episode for episode in made if episode.query_name != "2"]
    for row, fake in ((first, one), (second, two)):
        assert row.miou.value == pytest.approx(slow_miou(rest, fake.answers)[0])
    one.answer = two.answer = lambda episode: refuse(made[2])  # type: ignore[method-assign]
    with pytest.raises(InputError, match="no episode") as error:
        evaluate([one, two], [], source, skip_bad=Skipped())
    assert "too small" in str(error.value)


def test_a_query_is_judged_at_its_own_size(model: HSNet, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    source = Source(("pascal",), root=root, size=SIZE)
    own, resized = (source.open("test", original_size=yes)[0] for yes in (True, False))
    network = TorchNetwork(model)
    assert network.answer(own).shape == (180, 240) and network.answer(resized).shape == SIZE


def test_where_the_class_is_absent_what_is_found_counts(checkpoint: Path, tmp_path: Path) -> None:
    """Everything is found by the answer that marks everything; the page has no mIoU."""
    root = write_folder(tmp_path / "set")
    source = Source(("folder",), root=root, size=SIZE)
    empty = in_form(source.open("test"), "absent")
    nothing = Trivial("nothing", lambda episode: np.zeros_like(episode.query_mask))
    speck = np.zeros(SIZE, np.bool_)
    speck[:4, :4] = True  # 0.4 % of the picture
    specks = Trivial("specks", lambda episode: speck)
    network = Fake("all of it", 0, [])
    network.answer = lambda episode: np.ones_like(episode.query_mask)  # type: ignore[method-assign]
    accuracy = evaluate([network], [nothing, specks], empty, form="absent")
    assert [row.found.value for row in accuracy.rows] == [100, 0, 0]
    assert [row.area for row in accuracy.rows] == pytest.approx([100, 0, 100 * 16 / 64**2])
    assert accuracy.rows[0].found.low == pytest.approx(100 * 8 / (8 + 1.96**2), abs=0.01)
    assert accuracy.best_trivial is None
    page = markdown(accuracy, "")
    assert "| found in | shown in | of the pixels |" in page and "mIoU" not in page
    found = "100.0 [67.6, 100.0] %"
    assert f"| all of it | {found} | {found} | 100.0 % |" in page
    network.says_present = False
    (row, *rest) = evaluate([network], [nothing], empty, form="absent").rows
    assert row.found.value == 100 and row.shown is not None and row.shown.value == 0
    assert rest[0].shown is None

    judged = judge(checkpoint, source, tmp_path / "out", size=SIZE, form="mosaic")
    assert judged.form == "mosaic" and judged.data.endswith("mosaic") and judged.episodes == 8
    with pytest.raises(InputError, match="cannot be judged as absent"):
        judge(checkpoint, Source(("procedural",)), tmp_path / "out", size=SIZE, form="absent")


def test_broken_files_are_listed_or_named(tmp_path: Path, checkpoint: Path) -> None:
    root = write_folder(tmp_path / "set")
    (root / "class1" / "2.png").unlink()
    source = Source(("folder",), root=root)
    with pytest.raises(InputError, match=r"class1/2\.png"):
        judge(checkpoint, source, tmp_path / "out", size=SIZE)
    accuracy = judge(checkpoint, source, tmp_path / "out", size=SIZE, skip_bad=True)
    assert accuracy.episodes < 8 and len(accuracy.left_out) == 1
    assert "1 left out" in (tmp_path / "out/accuracy.md").read_text()
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="no episode"):
        evaluate(
            [Fake("one", 1, [])],
            [],
            dataclasses.replace(source, size=SIZE).open("test"),
            skip_bad=Skipped(),
        )


def test_the_command_writes_the_table(checkpoint: Path, blobs: Path, tmp_path: Path) -> None:
    arguments = [
        "evaluate",
        str(checkpoint),
        "--data",
        "folder",
        "--root",
        str(blobs),
        "--size",
        "64",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "PyTorch fp32" in result.output and "histogram" in result.output
    kept = json.loads((tmp_path / "out/accuracy.json").read_text())
    assert kept["episodes"] == 8 and kept["size"] == [64, 64]
    # The output is 80 columns wide, as a log is: no figure may be cut.
    assert "\u2026" not in result.output
    for row in kept["rows"]:
        for figure in (row["miou"], row["fb_iou"]):
            assert f"{figure['value']:.1f}" in result.output
            assert f"[{figure['low']:.1f}, {figure['high']:.1f}]" in result.output
