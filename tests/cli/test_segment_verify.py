"""`hsnet-trt segment` and `hsnet-trt verify`, as a person runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.command import hsnet
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image
from typer.testing import CliRunner

from hsnet_trt import FewShotSegmenter
from hsnet_trt.cli.main import app
from hsnet_trt.errors import InputError

BOX = (slice(10, 80), slice(20, 110))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, red and green supports, and two queries of one name."""
    path = tmp_path_factory.mktemp("segment")
    make_bundle(path / "bundle")
    mask = np.zeros(SIZE, np.uint8)
    mask[BOX] = 255
    Image.fromarray(mask).save(path / "mask.png")
    for name, colour in (("red", RED), ("green", GREEN)):
        Image.fromarray(scene(SIZE, [(colour, BOX)])).save(path / f"{name}.png")
    query = scene((200, 300), [(RED, np.s_[50:150, 20:120]), (GREEN, np.s_[50:150, 180:280])])
    (path / "other").mkdir()
    Image.fromarray(query).save(path / "query.png")
    Image.fromarray(query[:, ::-1]).save(path / "other/query.png")
    return path


def test_segment_writes_labels_and_overlays(folder: Path, tmp_path: Path) -> None:
    done = hsnet(
        "segment",
        "bundle",
        "query.png",
        "other/query.png",
        "--support",
        "red=red.png,mask.png",
        "--support",
        "green=green.png,mask.png",
        "--save-supports",
        tmp_path / "set.npz",
        "--out",
        tmp_path / "out",
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime, fp32" in done.stderr
    names = ["query-2.png", "query-2_overlay.jpg", "query.png", "query_overlay.jpg"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out/query.png") as image:
        labels = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
    assert labels.shape == (200, 300)
    assert [labels[100, 70], labels[100, 230], labels[5, 5]] == [1, 2, 0]
    assert colours[5, 5].tolist() == [0, 0, 0]
    assert colours[100, 70].tolist() != colours[100, 230].tolist()
    with Image.open(tmp_path / "out/query-2.png") as image:
        assert np.asarray(image)[100, 70] == 2
    with Image.open(tmp_path / "out/query_overlay.jpg") as image:
        assert image.size == (300, 200)

    again = hsnet(
        "segment",
        "bundle",
        "query.png",
        "--supports",
        tmp_path / "set.npz",
        "--out",
        tmp_path / "again",
        folder=folder,
    )
    assert again.returncode == 0, again.stderr
    with Image.open(tmp_path / "again/query.png") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query.png"], "no support was given"),
        (["query.png", "--support", "red.png,mask.png"], "NAME=IMAGE,MASK"),
        (["query.png", "--support", "x=red.png,absent.png"], "absent.png"),
        (["absent.jpg", "--support", "x=red.png,mask.png"], "absent.jpg"),
        (
            ["query.png", "bundle/bundle.json", "--support", "x=red.png,mask.png"],
            "cannot be opened",
        ),
        (["query.png", "--support", "x=query.png,mask.png"], "not of its image's size"),
        (["query.png", "--support", "x=red.png,mask.png", "--backend", "tensorrt"], "no engine"),
        (["query.png", "--support", "x=red.png,mask.png", "--size", "400"], "not exported at that"),
    ],
)
def test_failing_writes_nothing_and_shows_no_traceback(
    folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = hsnet("segment", "bundle", *arguments, "--out", tmp_path / "out", folder=folder)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["query.png", "--support", "x=red.png,mask.png"], "query.png"),  # a query
        (["mask.jpg", "--support", "x=red.png,mask.png"], "mask.png"),  # a mask, by its neighbour
        (["mask.jpg", "--support", "x=red.png,labels/mask.png:value=255"], "labels/mask.png"),
        (["ink.jpg", "--support", "x=red.png:scribble=labels/ink.png"], "labels/ink.png"),
        (["other.png", "--support", "x=red.png,mask.png", "--save-supports", "red.png"], "red.png"),
    ],
)
def test_what_is_read_is_not_overwritten(
    folder: Path, tmp_path: Path, arguments: list[str], kept: str
) -> None:
    (tmp_path / "labels").mkdir()
    for name in ("red.png", "mask.png", "query.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for name in ("mask.jpg", "ink.jpg", "other.png"):
        (tmp_path / name).write_bytes((folder / "query.png").read_bytes())
    (tmp_path / "labels/mask.png").write_bytes((folder / "mask.png").read_bytes())
    ink = np.full((*SIZE, 3), 128, np.uint8)
    ink[30:50, 40:90], ink[84:94, 112:127] = 255, 0
    Image.fromarray(ink).save(tmp_path / "labels/ink.png")
    before = (tmp_path / kept).read_bytes()
    out = "out" if "--save-supports" in arguments else Path(kept).parent
    done = hsnet("segment", folder / "bundle", *arguments, "--out", out, folder=tmp_path)
    assert done.returncode == 1 and "would be overwritten" in done.stderr
    assert (tmp_path / kept).read_bytes() == before


def test_segment_may_write_over_its_own_results(folder: Path, tmp_path: Path) -> None:
    words = ("segment", folder / "bundle", "query.png", "--out", tmp_path / "out")
    for more in (("--support", "x=red.png,mask.png"), ("--supports", tmp_path / "set.npz")):
        again = hsnet(*words, *more, "--save-supports", tmp_path / "set.npz", folder=folder)
        assert again.returncode == 0, again.stderr


def test_names_are_shown_as_they_are(folder: Path, tmp_path: Path) -> None:
    """Not as rich's markup or emoji, which would hide a part of them, or raise."""
    odd = tmp_path / "[old"
    (odd / "x[").mkdir(parents=True)
    query = odd / "x[" / "mug[red]:cat:.png"
    query.write_bytes((folder / "query.png").read_bytes())
    closing = tmp_path / "x[" / "b].png"
    closing.parent.mkdir()
    closing.write_bytes(query.read_bytes())
    words = (query, closing, "--support", "[/i]=red.png,mask.png", "--out", tmp_path / "out")
    done = hsnet("segment", "bundle", *words, folder=folder)
    assert done.returncode == 0, done.stderr
    shown = done.stderr.replace("\n", "")
    assert all(text in shown for text in (f"{query}:", f"{closing}:", "[/i] "))


def test_verify(folder: Path, tmp_path: Path) -> None:
    done = hsnet("verify", "bundle", folder=folder)
    assert done.returncode == 0, done.stderr
    for word in ("features", "support", "match", "logits", "verified"):
        assert word in done.stdout
    wrong = make_bundle(tmp_path / "wrong")
    graph = wrong / f"graphs/match_{SIZE[0]}x{SIZE[1]}.onnx"
    content = bytearray(graph.read_bytes())
    content[-200] ^= 1
    graph.write_bytes(content)
    done = hsnet("verify", wrong, folder=folder)
    assert done.returncode == 1
    assert "was altered" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_names_what_differs(folder: Path, tmp_path: Path) -> None:
    """A bundle whose match graph is another one, with hashes that are right."""
    import dataclasses

    from hsnet_trt.runtime.bundle import Bundle, write_bundle
    from hsnet_trt.runtime.bundle.manifest import Preprocessing

    source = Bundle.open(folder / "bundle")
    with write_bundle(tmp_path / "b") as writer:
        for name in source.manifest.files:
            writer.add(name, source.read(name))
        other = Preprocessing(mean=(0.5, 0.5, 0.5))
        writer.finish(dataclasses.replace(source.manifest, preprocessing=other))
    done = hsnet("verify", tmp_path / "b", folder=folder)
    assert done.returncode == 1
    assert "f2 of the graph features" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "found"), [("4GiB", 4 * 2**30), ("1000", 1000)])
def test_a_limit_of_gpu_memory_reaches_the_network(
    monkeypatch: pytest.MonkeyPatch, text: str, found: int
) -> None:
    asked: dict[str, Any] = {}

    def load(path: Path, **options: Any) -> None:
        asked.update(options)
        raise InputError("far enough")

    monkeypatch.setattr(FewShotSegmenter, "load", load)
    words = ["segment", "b", "q.png", "--support", "x=y.png,z.png", "--gpu-memory", text]
    CliRunner().invoke(app, words)
    assert asked["gpu_memory"] == found


def test_a_limit_that_is_no_amount_of_memory_is_refused() -> None:
    words = ["segment", "b", "q.png", "--support", "x=y.png,z.png", "--gpu-memory", "lots"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0 and "memory" in str(done.exception or done.output)
