"""Support sets in files: the same afterwards, and only for the model that made them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import RED, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import compress, expand
from hsnet_trt.runtime.matching.support_set import SupportSet

Shot = tuple[np.ndarray, np.ndarray]
QUERY = scene((200, 300), [(RED, (slice(50, 150), slice(50, 200)))])


@pytest.fixture
def saved(bundle: Path, red_shot: Shot, green_shot: Shot, tmp_path: Path) -> Path:
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", *red_shot)
        segmenter.set_support("grün", [green_shot[0], red_shot[0]], [green_shot[1], red_shot[1]])
        segmenter.save_supports(tmp_path / "set.npz")
    return tmp_path / "set.npz"


def test_round_trip(bundle: Path, saved: Path, red_shot: Shot, green_shot: Shot) -> None:
    with FewShotSegmenter.load(bundle) as first, FewShotSegmenter.load(bundle) as second:
        first.set_support("red", *red_shot)
        first.set_support("grün", [green_shot[0], red_shot[0]], [green_shot[1], red_shot[1]])
        second.set_support("blue", *green_shot)
        second.load_supports(saved)
        assert second.classes == ("blue", "red", "grün")
        a, b = first.segment(QUERY), second.segment(QUERY)
        for name in ("red", "grün"):
            np.testing.assert_array_equal(a.scores[name], b.scores[name])
            shots = (first._current.supports.classes[name], second._current.supports.classes[name])
            for ours, theirs in zip(*shots, strict=True):
                for level in ("s2", "s3", "s4"):
                    np.testing.assert_array_equal(ours[level].at, theirs[level].at)
                    np.testing.assert_array_equal(ours[level].values, theirs[level].values)


def test_vectors_of_a_background_contrast_go_along(
    saved: Path, red_shot: Shot, green_shot: Shot, tmp_path: Path
) -> None:
    path = make_bundle(tmp_path / "b", contrast=2.0)
    with FewShotSegmenter.load(path) as first, FewShotSegmenter.load(path) as second:
        first.set_support("red", [green_shot[0], red_shot[0]], [green_shot[1], red_shot[1]])
        first.save_supports(tmp_path / "own.npz")
        second.load_supports(tmp_path / "own.npz")
        a, b = first.segment(QUERY), second.segment(QUERY)
        np.testing.assert_array_equal(a.scores["red"], b.scores["red"])
        kept = expand(list(second._current.supports))
        assert list(kept) == ["s2", "s3", "s4", "c3", "c4"]
        assert kept["c3"].shape == kept["c4"].shape == (2, 1, 3, 1)
        assert kept["c3"].any(axis=(1, 2, 3)).all()
        with pytest.raises(InputError, match="another model"):  # without the vectors
            second.load_supports(saved)
    with np.load(tmp_path / "own.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("0_1_c4")}
    np.savez(tmp_path / "less.npz", **arrays)
    with FewShotSegmenter.load(path) as third, pytest.raises(InputError, match="damaged"):
        third.load_supports(tmp_path / "less.npz")


def test_the_file_leaves_out_what_lies_outside_of_the_masks(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        assert archive["0_0_s2"].shape[2] < 192
        assert "origin" in json.loads(str(archive["header"]))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"weights": "cd" * 32}, "weights_sha256"),
        ({"sizes": ((64, 96),)}, "size"),
        ({"resize": "letterbox"}, "resize"),
    ],
)
def test_another_model_refuses_it(
    saved: Path, tmp_path: Path, red_shot: Shot, other: dict, says: str
) -> None:
    path = make_bundle(tmp_path / "other", **other)
    with FewShotSegmenter.load(path) as segmenter:
        with pytest.raises(InputError, match="another model or for another input") as caught:
            segmenter.load_supports(saved)
        assert says in str(caught.value.found)
        assert segmenter.classes == ()


def edit(path: Path, **changes: object) -> Path:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = np.asarray(value)
    np.savez(path, **arrays)
    return path


def header_with(path: Path, **changes: object) -> str:
    with np.load(path) as archive:
        return json.dumps({**json.loads(str(archive["header"])), **changes})


def test_damaged_files(bundle: Path, saved: Path, tmp_path: Path) -> None:
    good = saved.read_bytes()
    huge = np.full((2, 3, 4), np.nan, np.float32)
    with np.load(saved, allow_pickle=False) as archive:
        columns = archive["0_0_s2_columns"]
        coarse = len(archive["0_0_s4_columns"])
        behind = 12 + np.arange(coarse) - coarse + 1  # the last is in the padding of 3 x 4 to 16

    def text() -> None:
        saved.write_text("not a zip")

    def cut() -> None:
        saved.write_bytes(good[: len(good) // 2])

    def flipped() -> None:
        saved.write_bytes(good[:2000] + bytes(64) + good[2064:])

    damages = [
        text,
        cut,
        flipped,
        lambda: saved.write_bytes(b""),
        lambda: np.save(saved.open("wb"), np.arange(3)),
        lambda: np.savez(saved, a=np.arange(3)),
        lambda: np.savez(saved, header=np.array([{"a": 1}], dtype=object)),
        lambda: edit(saved, header="[]"),
        lambda: edit(saved, header="{"),
        lambda: edit(saved, header=header_with(saved, version=3)),
        lambda: edit(saved, header=header_with(saved, format="x")),
        lambda: edit(saved, header=header_with(saved, classes=[{"name": "a", "shots": 9}])),
        lambda: edit(saved, header=header_with(saved, classes=[{"name": "a", "shots": -1}])),
        lambda: edit(saved, header=header_with(saved, classes=[{"name": "", "shots": 1}])),
        lambda: edit(saved, header=header_with(saved, classes=7)),
        lambda: edit(saved, **{"0_0_s2": None}),
        lambda: edit(saved, **{"0_0_s2": huge}),
        lambda: edit(saved, **{"0_0_s2": np.zeros((2, 3, 10**6), np.float32)}),
        lambda: edit(saved, **{"0_0_s3_columns": np.full(200, 10**6)}),
        lambda: edit(saved, **{"0_0_s4_columns": behind}),
        lambda: edit(saved, **{"0_0_s3_columns": np.array(["a"])}),
        lambda: edit(saved, **{"0_0_s2_columns": columns[::-1]}),
        lambda: edit(saved, **{"0_0_s2_columns": columns - 1 - columns[0]}),
    ]
    with FewShotSegmenter.load(bundle) as segmenter:
        for damage in damages:
            saved.write_bytes(good)
            damage()
            with pytest.raises(InputError) as caught:
                segmenter.load_supports(saved)
            assert caught.value.fix
            assert segmenter.classes == ()
        with pytest.raises(InputError, match="no support set"):
            segmenter.load_supports(tmp_path / "absent.npz")
        saved.write_bytes(good)
        segmenter.load_supports(saved)
        assert segmenter.classes == ("red", "grün")


@pytest.mark.parametrize("name", ["header", "0_0_s2", "0_0_s3_columns"])
def test_a_small_file_does_not_unpack_to_a_large_one(bundle: Path, saved: Path, name: str) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        arrays = dict(archive)
    bomb = np.zeros(100 << 20, np.uint8) if name != "header" else np.array("0" * (25 << 20))
    np.savez_compressed(saved, **{**arrays, name: bomb})
    assert saved.stat().st_size < 1 << 20
    with FewShotSegmenter.load(bundle) as segmenter:
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match="damaged"):
                segmenter.load_supports(saved)
            assert tracemalloc.get_traced_memory()[1] < 20 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(("version", "fix"), [(1, "encode the supports again"), (3, "upgrade")])
def test_other_versions_are_refused_with_words(
    bundle: Path, saved: Path, version: int, fix: str
) -> None:
    edit(saved, header=header_with(saved, version=version))
    with (
        FewShotSegmenter.load(bundle) as segmenter,
        pytest.raises(InputError, match="another format version") as caught,
    ):
        segmenter.load_supports(saved)
    assert fix in str(caught.value.fix)


def test_failing_to_write_leaves_the_old_file(
    bundle: Path, saved: Path, red_shot: Shot, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", *red_shot)
        with pytest.raises(InputError, match="cannot be written") as caught:
            segmenter.save_supports(saved)
        assert caught.value.found == "No space left on device"
        with pytest.raises(InputError, match="cannot be written"):
            segmenter.save_supports(saved.parent / "no" / "folder.npz")
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["set.npz"]


def test_stacking_brings_the_zeros_back() -> None:
    rng = np.random.default_rng(0)
    encoded = {
        level: rng.normal(size=(3, 2, 4, n)).astype(np.float32) * (rng.random((3, 1, 1, n)) < share)
        for level, n, share in (("s2", 30, 0.5), ("s3", 9, 0.0), ("s4", 4, 1.0))
    }
    shots = compress(encoded)
    both = SupportSet({"a": shots[:1]}).with_class("b", shots[1:])
    assert both.shots == [1, 2]
    for level, stacked in expand(list(both)).items():
        np.testing.assert_array_equal(stacked, encoded[level])
