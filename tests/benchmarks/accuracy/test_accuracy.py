from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_bundle import make_bundle
from helpers.tiny_sets import write_folder, write_voc
from PIL import Image
from typer.testing import CliRunner

from hsnet_trt.benchmarks.accuracy.accuracy import evaluate
from hsnet_trt.benchmarks.accuracy.answers import BundleNetwork, TorchNetwork
from hsnet_trt.benchmarks.accuracy.emulated_bundle import emulated_bundle
from hsnet_trt.benchmarks.accuracy.judging import judge
from hsnet_trt.benchmarks.accuracy.report import markdown
from hsnet_trt.benchmarks.accuracy.trivial import (
    Trivial,
    _refined_too,
    foreground_minus_background,
    trivial_answers,
)
from hsnet_trt.cli.main import app
from hsnet_trt.data.episodes.episode import Episode, Episodes, Mask, Skipped
from hsnet_trt.data.episodes.forms import in_form
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.model.checkpoint import save_checkpoint
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.bundle import Bundle

SIZE = (64, 64)
pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker exports their bundle


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("blobs"))


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


def test_the_reference_answers_as_the_model_predicts(model: HSNet, blobs: Path) -> None:
    episodes = Source(("folder",), root=blobs, size=(64, 96), shots=3).open("test")
    network = TorchNetwork(model)
    mean, std = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def tensor(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))

    for episode in episodes.take(3):
        shown = tensor(episode.supports)[None]
        masks = torch.from_numpy(episode.support_masks)[None]
        expected = model.predict(tensor(episode.query[None]), shown, masks)[0].numpy() > 0.5
        assert (network.answer(episode) == expected).mean() > 0.999


@pytest.mark.parametrize("refine", [False, True])
def test_a_bundle_beside_its_checkpoint_at_the_queries_own_size(
    bundle: Path, checkpoint: Path, tmp_path: Path, refine: bool
) -> None:
    source = Source(("pascal",), root=write_voc(tmp_path / "voc"), shots=2, seed=0)
    accuracy = judge(
        bundle,
        source,
        tmp_path / "out",
        checkpoint=checkpoint,
        backend="onnxruntime",
        refine=refine,
        original_size=True,
        count=6,
        command="hsnet-trt evaluate ...",
    )
    reference, engine = accuracy.rows[:2]
    assert reference.name == "PyTorch fp32" and engine.name == "onnxruntime fp32"
    assert engine.changed is not None and engine.changed < 0.5
    assert abs(engine.miou.value - reference.miou.value) < 0.5
    assert accuracy.size == SIZE and accuracy.shots == 2 and accuracy.original_size
    kept = json.loads((tmp_path / "out/accuracy.json").read_text())
    by_content = [
        "colour histogram",
        "prototypes, stride 8",
        "prototypes, stride 16",
        "prototypes, stride 32",
        "prototypes, 16 + 32",
    ]
    names = ["all foreground", *by_content]
    names += [f"{name}, refined" for name in by_content if refine]
    assert [row["name"] for row in kept["rows"]][2:] == names
    assert kept["facts"]["command"] == "hsnet-trt evaluate ..."
    assert set(kept["rows"][0]["per_class"]) <= {
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
    }
    # Two supports, the truth, two answers.
    assert Image.open(tmp_path / "out/accuracy.png").size == (5 * 192, 6 * 192)
    assert "the queries' own size" in (tmp_path / "out/accuracy.md").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "accuracy.json",
        "accuracy.md",
        "accuracy.png",
    ]


def test_masks_are_refined_if_the_checkpoint_or_the_caller_says_so(
    model: HSNet, blobs: Path, tmp_path: Path
) -> None:
    source, found = Source(("folder",), root=blobs, seed=0), {}
    for own in (False, True):
        save_checkpoint(model, tmp_path / f"{own}.pt", refine=own)
        for refine in (None, False, True):
            judged = judge(
                tmp_path / f"{own}.pt", source, tmp_path / "out", size=SIZE, refine=refine, count=3
            )
            found[own, refine] = judged.rows[0].fb_iou.value
    assert found[False, None] == found[False, False] == found[True, False]
    assert found[True, None] == found[True, True] == found[False, True]
    assert found[True, True] != found[False, False]


def test_fp16_is_judged_as_it_rounds(bundle: Path, blobs: Path, tmp_path: Path) -> None:
    """Emulated, and as ONNX Runtime computes it on a CPU: near FP32, and not the same."""
    source = Source(("folder",), root=blobs, seed=0)
    accuracy = judge(
        bundle,
        source,
        tmp_path / "out",
        backend="onnxruntime",
        count=6,
        precisions=["fp32", "fp16-emulated", "fp16"],
    )
    exact, rounded, native = accuracy.rows[:3]
    assert [row.name for row in accuracy.rows[:3]] == [
        "onnxruntime fp32",
        "fp16, emulated",
        "onnxruntime fp16",
    ]
    for row in (rounded, native):
        assert row.changed is not None and row.changed < 1
        assert abs(row.miou.value - exact.miou.value) < 1
    with pytest.raises(InputError, match="no FP16 graphs"):
        judge(bundle, source, tmp_path / "out", precisions=["fp32-emulated"])
    opened = Bundle.open(bundle)
    with emulated_bundle(opened) as path:
        judged = Bundle.open(path)
        kinds = {t.dtype for g in judged.manifest.graphs for t in (*g.inputs, *g.outputs)}
        assert kinds == {"float32"}
        held = path
    assert not held.exists()


def test_a_query_is_judged_at_its_own_size(model: HSNet, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    source = Source(("pascal",), root=root, size=SIZE)
    own, resized = (source.open("test", original_size=yes)[0] for yes in (True, False))
    network = TorchNetwork(model)
    assert network.answer(own).shape == (180, 240) and network.answer(resized).shape == SIZE


def test_other_weights_are_not_compared(bundle: Path, blobs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(HSNet("resnet18"), tmp_path / "other.pt")
    source = Source(("folder",), root=blobs)
    with pytest.raises(InputError, match="was not made from"):
        judge(bundle, source, tmp_path / "out", checkpoint=tmp_path / "other.pt")
    with pytest.raises(InputError, match="both checkpoints"):
        judge(tmp_path / "other.pt", source, tmp_path / "out", checkpoint=tmp_path / "other.pt")
    assert not (tmp_path / "out").exists()


def test_prototypes_find_what_points_the_same_way(blobs: Path) -> None:
    episode = next(Source(("folder",), root=blobs, size=SIZE, shots=2).open("test").take(1))
    truth = np.zeros((8, 8), np.bool_)
    truth[2:5, 3:8] = True
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(2, 16))
    cells = [
        truth,
        *(np.asarray(Image.fromarray(m).resize((8, 8), 0)) for m in episode.support_masks),
    ]
    last = np.stack([np.where(c.ravel(), inside[:, None], outside[:, None]) for c in cells])
    features = {"f2": np.stack([rng.normal(size=last.shape), last], axis=1).astype(np.float32)}
    answer = foreground_minus_background(features, ["f2"], episode)
    assert answer.shape == SIZE
    centres = answer[4::8, 4::8]
    np.testing.assert_array_equal(centres, truth)


def test_the_surer_level_decides_where_two_disagree(blobs: Path) -> None:
    """At 4 x 4, all objects; at 8 x 8, by a tenth of that angle, nothing: the mean says object."""
    episode = next(Source(("folder",), root=blobs, size=SIZE).open("test").take(1))
    mask = np.asarray(Image.fromarray(episode.support_masks[0]).resize((8, 8), 0)).ravel()

    def last(sure: float, grid: int, at: float) -> np.ndarray:
        """Features [2,1,2,n] of a query all at one angle, and a support by its mask."""
        small = mask if grid == 8 else mask.reshape(8, 8)[::2, ::2].ravel()
        support = np.where(small, sure, -sure)
        angles = np.stack([np.full(grid * grid, at * sure), support])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None].astype(np.float32)

    features = {"f3": last(0.1, 8, -1.0), "f4": last(1.0, 4, 1.0)}
    assert not foreground_minus_background(features, ["f3"], episode).any()
    assert foreground_minus_background(features, ["f4"], episode).all()
    assert foreground_minus_background(features, ["f3", "f4"], episode).all()


def test_features_are_taken_once_for_all_prototypes(model: HSNet, blobs: Path) -> None:
    episode = next(Source(("folder",), root=blobs, size=(64, 96)).open("test").take(1))
    network = TorchNetwork(model)
    taken: list[int] = []
    features = network.features

    def counted(images: np.ndarray) -> dict[str, np.ndarray]:
        taken.append(len(images))
        return features(images)

    network.features = counted  # type: ignore[method-assign]
    for trivial in trivial_answers(network):
        answer = trivial.answer(episode)
        assert answer.shape == (64, 96) and answer.dtype == np.bool_
    assert taken == [2]


def test_trivial_answers_are_refined_where_the_networks_are(model: HSNet) -> None:
    """A bright square on grey, whose trivial answer lies two pixels beside it."""
    network = TorchNetwork(model)
    plain = [trivial.name for trivial in trivial_answers(network)]
    network.refine = True
    trivials = {trivial.name: trivial for trivial in trivial_answers(network)}
    assert [*trivials][: len(plain)] == plain
    assert [*trivials][len(plain) :] == [f"{name}, refined" for name in plain[1:]]
    picture = np.full((160, 160, 3), 90, np.uint8)
    picture[40:120, 40:120] = 250
    truth, beside = (np.zeros((160, 160), np.bool_) for _ in range(2))
    truth[40:120, 40:120] = beside[42:122, 42:122] = True
    episode = dataclasses.replace(
        drawn(1, ignored=False)[0],
        query=picture,
        query_mask=truth,
        supports=picture[None],
        support_masks=beside[None],
    )
    refined = _refined_too(Trivial("beside", lambda e: beside))
    assert refined.name == "beside, refined"
    found = refined.answer(episode)
    assert found.shape == truth.shape and found.dtype == np.bool_
    assert 2 * (found != truth).sum() < (beside != truth).sum()


@pytest.mark.parametrize("contrast", [0.0, 2.0])
def test_a_bundle_gives_prototypes_its_features_without_the_rows_ends(
    contrast: float, blobs: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "b", contrast=contrast)
    size = Bundle.open(bundle).manifest.sizes[0]
    episode = next(Source(("folder",), root=blobs, size=size).open("test").take(1))
    network = BundleNetwork(bundle, "onnxruntime")
    grids = Bundle.open(bundle).manifest.graphs[0].grids
    features = network.features(episode.query[None])
    assert [features[name].shape[3] for name in ("f2", "f3", "f4")] == [h * w for h, w in grids]
    assert all(trivial.answer(episode).shape == size for trivial in trivial_answers(network))
    network.close()


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
    with pytest.raises(InputError, match="No episode"):
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
    assert "PyTorch fp32" in result.output and "colour histogram" in result.output
    kept = json.loads((tmp_path / "out/accuracy.json").read_text())
    assert kept["episodes"] == 8 and kept["size"] == [64, 64]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (Source(()), "No source"),
        (Source(("imagenet",)), "imagenet"),
        (Source(("pascal",)), "folder to read from"),
        (Source(("fss",), root=Path(".")), "class lists"),
    ],
)
def test_sources_that_cannot_be_opened_say_why(source: Source, named: str) -> None:
    with pytest.raises(InputError, match=named):
        source.open("test")


def test_a_mixture_takes_turns(blobs: Path) -> None:
    twice = Source(("procedural", "folder", "procedural"), root=blobs, size=SIZE).open("train")
    alone = Source(("procedural",), size=SIZE).open("train")
    own = Source(("folder",), root=blobs, size=SIZE).open("train")
    names = [twice[i].query_name for i in range(6)]
    assert names == [
        alone[0].query_name,
        own[0].query_name,
        alone[1].query_name,
        alone[2].query_name,
        own[1].query_name,
        alone[3].query_name,
    ]
    assert twice.name == f"2 x procedural train + {blobs.name} train"
    assert len(twice.classes) == len(alone.classes) + len(own.classes)
    for i in range(6):
        assert twice.classes[twice[i].class_id] == twice[i].class_name


def test_groups_of_classes_are_told_apart() -> None:
    episodes = drawn(9, ignored=False)
    by_number = Episodes("x", {0: "c0", 1: "c1", 2: "c2"}, lambda i: episodes[i], 9)
    network = Fake("a", 1, episodes)
    groups = {"two": frozenset({"c0", "c2"}), "none of these": frozenset({"d"})}
    row = evaluate([network], [], by_number, groups=groups).rows[0]
    kept = [e for e in episodes if e.class_name != "c1"]
    alone = Episodes("x", {0: "c0", 2: "c2"}, lambda i: kept[i], 6)
    other = evaluate([network], [], alone).rows[0]
    assert list(row.groups) == ["two"] and row.groups["two"].episodes == 6
    assert row.groups["two"].miou == other.miou and row.groups["two"].boundary == other.boundary
    assert row.groups["two"].found == other.found
