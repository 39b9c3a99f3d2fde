"""Resizing against PIL and torch, masks of every kind, and what importing brings along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from hsnet_trt.data.episodes.episode import Episode, Episodes, Skipped
from hsnet_trt.data.episodes.files import read_any_mask, read_image, resize_mask
from hsnet_trt.data.episodes.trivial import all_foreground, colour_histogram
from hsnet_trt.data.sheet import episode_sheet
from hsnet_trt.errors import InputError


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 450), st.integers(1, 450))
def test_masks_are_resized_as_torch_does(h: int, w: int, out_h: int, out_w: int) -> None:
    torch = pytest.importorskip("torch")
    mask = np.random.default_rng(h * w).random((h, w)) < 0.5
    tensor = torch.from_numpy(mask)[None, None].float()
    expected = torch.nn.functional.interpolate(tensor, (out_h, out_w), mode="nearest")[0, 0]
    assert (resize_mask(mask, (out_h, out_w)) == expected.numpy().astype(bool)).all()


def test_mask_rows_come_from_floor() -> None:
    for n_in, n_out in ((500, 400), (375, 400), (333, 400), (7, 3), (3, 7)):
        rows = [i * n_in // n_out for i in range(n_out)]
        # A mask that is its own row's bits tells which row was taken.
        bits = (np.arange(n_in)[:, None] >> np.arange(10)) & 1 > 0
        assert (resize_mask(bits, (n_out, 10)) == bits[rows]).all()


@pytest.mark.parametrize(("place", "turned"), [("exif", True), ("xmp", False)])
def test_a_persons_photographs_are_turned_by_exif_alone(
    place: str, turned: bool, tmp_path: Path
) -> None:
    """Picture and mask alike; those of the datasets stay as they are stored."""
    tags = Image.Exif()
    tags[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    stored = np.zeros((4, 6), np.uint8)
    stored[0] = 255
    option = {"exif": tags} if place == "exif" else {"xmp": xmp}
    Image.fromarray(stored).convert("RGB").save(tmp_path / "a.webp", lossless=True, **option)
    shown = np.rot90(stored, -1) if turned else stored
    mask, _ = read_any_mask(tmp_path / "a.webp", upright=True)
    assert (read_image(tmp_path / "a.webp", upright=True)[..., 0] == shown).all()
    assert (mask == (shown > 0)).all()
    assert (read_image(tmp_path / "a.webp")[..., 0] == stored).all()


def test_masks_that_people_draw(tmp_path: Path) -> None:
    inside = np.zeros((6, 8), np.bool_)
    inside[2:4, 3:6] = True
    pictures = {
        "grey": Image.fromarray(inside.astype(np.uint8) * 255),
        "ones": Image.fromarray(inside.astype(np.uint8)),
        "colour": Image.fromarray(np.repeat(inside[..., None], 3, 2).astype(np.uint8) * 200),
        "bits": Image.fromarray(inside),
        "deep": Image.fromarray(inside.astype(np.uint16) * 65535),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        found, ignored = read_any_mask(tmp_path / f"{name}.png")
        assert (found == inside).all(), name
        assert ignored is None
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "empty.png")
    assert not read_any_mask(tmp_path / "empty.png")[0].any()


def make(index: int) -> Episode:
    if index % 3 == 2:
        raise InputError(f"The mask {index % 2}.png is broken")
    rng = np.random.default_rng(index)
    mask = np.zeros((24, 24), np.bool_)
    mask[6:18, 6:18] = True
    # The object has a colour of its own, so that colours alone find it.
    pictures = rng.integers(0, 90, (3, 24, 24, 3)).astype(np.uint8)
    pictures[:, mask] += 150
    return Episode(
        pictures[0],
        mask,
        pictures[1:],
        np.stack([mask] * 2),
        0,
        "x",
        None,
        "q",
        ("a", "b"),
        (24, 24),
    )


def test_postscript_is_refused_before_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would start Ghostscript, whatever the file is called."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("run"))
    program = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n%%EOF\n"
    (tmp_path / "a.jpg").write_text(program)
    for read in (read_image, read_any_mask):
        with pytest.raises(InputError, match=r"a\.jpg cannot be read") as caught:
            read(tmp_path / "a.jpg")
        assert "PostScript" in str(caught.value.found)


def test_take_starts_stops_and_skips() -> None:
    endless = Episodes("x", {0: "x"}, make, None)
    with pytest.raises(InputError):
        list(endless.take(9))
    skipped = Skipped()
    assert len(list(endless.take(12, start=3, skipped=skipped))) == 8
    assert len(skipped) == 2  # two files, each met twice
    with pytest.raises(TypeError, match="never ends"):
        len(endless)
    finite = Episodes("x", {0: "x"}, make, 2)
    assert len(finite) == len(list(finite)) == len(list(finite.take(5))) == 2
    with pytest.raises(IndexError):
        finite[2]
    with pytest.raises(IndexError):
        finite[-1]


def test_trivial_answers() -> None:
    episode = make(0)
    assert all_foreground(episode).all()
    answer = colour_histogram(episode)
    assert answer.shape == (24, 24) and answer.dtype == np.bool_
    both, either = (answer & episode.query_mask).sum(), (answer | episode.query_mask).sum()
    assert both / either > 0.7


def test_sheet_shows_supports_query_and_answer() -> None:
    episode = make(0)
    sheet = episode_sheet([episode, episode], [episode.query_mask] * 2, cell=24)
    assert sheet.size == (4 * 24, 2 * 24)
    drawn = np.asarray(sheet)
    assert (drawn[6, 6 + 48] == (40, 220, 60)).all(), "the border of the truth"
    assert (drawn[6, 6 + 72] == (255, 70, 40)).all(), "the border of the answer"
    assert (drawn[0, 48] == episode.query[0, 0]).all(), "outside, the picture itself"


def test_reading_data_needs_neither_torch_nor_opencv() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['cv2'] = sys.modules['skimage'] = None; "
        "from hsnet_trt.data.sets import pascal, coco, fss, folder; "
        "from hsnet_trt.data.episodes import metrics, trivial; from hsnet_trt.data import sheet"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; from hsnet_trt.data.drawn import procedural, photo_cut; "
        "from hsnet_trt.data.episodes import metrics, trivial; from hsnet_trt.data import sheet; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
