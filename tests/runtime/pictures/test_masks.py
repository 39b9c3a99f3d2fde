"""Masks as people have them."""

from __future__ import annotations

import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.pictures.masks import read_mask

PHOTOGRAPHS = Path(__file__).parents[3] / "cli" / "demo_photographs"
SHAPE = (12, 17)
TRUTH = np.zeros(SHAPE, bool)
TRUTH[3:9, 4:15] = True


def forms() -> dict[str, object]:
    grey = np.where(TRUTH, 255, 0).astype(np.uint8)
    palette = Image.fromarray(TRUTH.astype(np.uint8) * 15, "P")
    palette.putpalette([0, 0, 0] + [3 * i % 256 for i in range(3, 768)])
    black_white = Image.fromarray(TRUTH.astype(np.uint8), "P")
    black_white.putpalette([0, 0, 0, 255, 255, 255])
    red = np.dstack([np.full(SHAPE, 200, np.uint8)] * 3 + [grey])
    return {
        "bool": TRUTH,
        "0/1 uint8": TRUTH.astype(np.uint8),
        "0/255 uint8": grey,
        "0/1 int64": TRUTH.astype(np.int64),
        "one label": TRUTH.astype(np.int32) * 7,
        "float 0/1": TRUTH.astype(np.float32),
        "float probabilities": np.where(TRUTH, 0.8, 0.3),
        "float 0/255": grey.astype(np.float64),
        "float16": TRUTH.astype(np.float16),
        "trailing channel": grey[:, :, None],
        "leading channel": TRUTH[None],
        "soft edges": np.where(TRUTH, 255, 60).astype(np.uint8) - np.eye(*SHAPE, dtype=np.uint8),
        "PIL 1": Image.fromarray(TRUTH),
        "PIL L": Image.fromarray(grey),
        "PIL RGB": Image.fromarray(np.dstack([grey] * 3)),
        "PIL cut-out": Image.fromarray(red),
        "PIL LA, opaque": Image.fromarray(grey).convert("LA"),
        "palette, label 15": palette,
        "palette, black and white": black_white,
        "PIL 16 bit": Image.fromarray(TRUTH.astype(np.uint16) * 65535),
    }


@pytest.mark.parametrize("form", forms())
def test_forms(form: str, tmp_path: Path) -> None:
    source = forms()[form]
    np.testing.assert_array_equal(read_mask(source, SHAPE), TRUTH)  # type: ignore[arg-type]
    if isinstance(source, Image.Image):
        source.save(tmp_path / "mask.png")
        found = read_mask(tmp_path / "mask.png", SHAPE)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, TRUTH)


def test_jpeg_mask(tmp_path: Path) -> None:
    grey = np.zeros((64, 64), np.uint8)
    grey[16:48, 16:48] = 255
    Image.fromarray(grey).save(tmp_path / "mask.jpg", quality=70)
    found = read_mask(tmp_path / "mask.jpg", (64, 64))
    assert (found != (grey > 0)).mean() < 0.01


@pytest.mark.parametrize("photograph", sorted(PHOTOGRAPHS.glob("*/*.jpg")), ids=lambda p: p.stem)
def test_a_photograph_in_the_place_of_its_mask_warns(photograph: Path) -> None:
    with Image.open(photograph) as image:
        grey = np.array(image.convert("L"))
    grey[0, 0] = 255
    with pytest.warns(HSNetWarning, match="looks like a photograph"):
        read_mask(photograph, grey.shape)
    with pytest.warns(HSNetWarning, match="looks like a photograph"):
        read_mask(grey, grey.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_mask(photograph.with_suffix(".png"), grey.shape)


def test_mask_follows_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(TRUTH).astype(np.uint8) * 255).save(tmp_path / "m.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", SHAPE), TRUTH)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (TRUTH[:-1], "size"),
        (TRUTH.T, "size"),
        (np.zeros(SHAPE, bool), "empty"),
        (np.zeros(SHAPE, np.float32), "empty"),
        (np.full(SHAPE, 0.2), "empty"),
        (np.where(TRUTH, np.nan, 0), "not a mask"),
        (np.where(TRUTH, np.inf, 0), "not a mask"),
        (np.where(TRUTH, -1, 0), "not a mask"),
        (np.where(TRUTH, 37.5, 1.5), "not a mask"),
        (np.arange(12 * 17).reshape(SHAPE) % 5, "several labels"),
        (np.array([0, 1, 15, 255] * 51, np.uint8).reshape(SHAPE), "several labels"),
        (np.array([0, 1, 255] * 68, np.uint8).reshape(SHAPE), "several labels"),
        (np.zeros((*SHAPE, 2), bool), "not a mask"),
        (np.dstack([TRUTH * 200, TRUTH * 3, TRUTH * 9]).astype(np.uint8), "not a mask"),
        (np.array("mask"), "not a mask"),
        (np.zeros((0, 17), bool), "not a mask"),
        ("absent.png", "opened"),
    ],
)
def test_bad_masks(bad: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_mask(bad, SHAPE, "the mask of shot 2 of 'mug'")  # type: ignore[arg-type]
    assert "the mask of shot 2 of 'mug'" in str(caught.value)
    assert caught.value.fix


def test_wrong_size_tells_both() -> None:
    with pytest.raises(InputError) as caught:
        read_mask(TRUTH.T, SHAPE)
    assert "12 x 17" in str(caught.value.expected)
    assert "17 x 12" in str(caught.value.found)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_all_ones_warns(kind: type) -> None:
    with pytest.warns(HSNetWarning, match="whole image"):
        found = read_mask(np.ones(SHAPE, kind), SHAPE)
    assert found.all()


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))).filter(
        lambda m: bool(m.any() and not m.all())
    ),
    st.sampled_from([(bool, 1), (np.uint8, 1), (np.uint8, 255), (np.float32, 1), (np.int16, 3)]),
)
def test_any_mask_survives_its_form(mask: np.ndarray, form: tuple[type, int]) -> None:
    kind, value = form
    np.testing.assert_array_equal(read_mask((mask * value).astype(kind), mask.shape), mask)


def test_a_mask_of_another_size_is_named_also_where_the_image_cannot_be_read_again() -> None:
    """A pipe or a request's body: the image was read from it already."""
    pipe = types.SimpleNamespace(read=lambda: b"", seekable=lambda: False)
    with pytest.raises(InputError, match="not of its image's size"):
        read_mask(TRUTH[:-1], TRUTH.shape, image=pipe)  # type: ignore[arg-type]
