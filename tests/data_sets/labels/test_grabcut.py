"""Masks from boxes and scribbles: drawn objects, whose masks are known, and real photographs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.places import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsnet_trt.data.labels.grabcut import mask_from_box, mask_from_scribble
from hsnet_trt.errors import InputError

PHOTOGRAPHS = ROOT / "cli" / "demo_photographs"
MASKS = sorted(PHOTOGRAPHS.glob("*/*.png"))


def drawn(size: tuple[int, int] = (120, 160), turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A striped ellipse with a bite, on a ground of other colours; both uneven. Image and mask."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    u, v = (x - 0.55 * width) / height, (y - 0.5 * height) / height
    a, b = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    mask = ((a / 0.42) ** 2 + (b / 0.25) ** 2 < 1) & ((a - 0.35) ** 2 + b**2 > 0.02)
    stripes = (np.sin(40 * a) > 0)[..., None]
    thing = np.where(stripes, (200, 60, 40), (230, 180, 40))
    ground = np.stack([40 + 60 * x / width, 90 + 60 * y / height, 140 + 0 * x], axis=-1)
    noise = np.random.default_rng(3).normal(0, 8, (*size, 3))
    image = np.where(mask[..., None], thing, ground) + noise
    return image.clip(0, 255).astype(np.uint8), mask


def box_of(mask: np.ndarray, loose: int = 0) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = max(0, columns[0] - loose), max(0, rows[0] - loose)
    right = min(mask.shape[1], columns[-1] + 1 + loose)
    bottom = min(mask.shape[0], rows[-1] + 1 + loose)
    return int(x), int(y), int(right - x), int(bottom - y)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("loose", [0, 6])
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_a_box_finds_a_drawn_object(loose: int, turn: float) -> None:
    image, mask = drawn(turn=turn)
    found = mask_from_box(image, box_of(mask, loose))
    assert found.dtype == np.bool_ and found.shape == mask.shape
    assert iou(found, mask) >= 0.95
    np.testing.assert_array_equal(mask_from_box(image, box_of(mask, loose)), found)


@pytest.mark.parametrize("beside", [False, True])
def test_a_scribble_finds_a_drawn_object(beside: bool) -> None:
    image, mask = drawn()
    on, off = np.zeros_like(mask), np.zeros_like(mask)
    on[58:62, 50:110] = True
    off[5:8, 20:140] = True
    assert mask[on].all() and not mask[off].any()
    found = mask_from_scribble(image, on, off if beside else None)
    assert iou(found, mask) >= 0.95
    np.testing.assert_array_equal(mask_from_scribble(image, on, off if beside else None), found)


def test_strokes_hold_whatever_their_colours() -> None:
    """A stroke beside the object takes away what has the object's colours; both is neither."""
    image, mask = drawn()
    twin = np.concatenate([image, image], axis=1)
    on, off = np.zeros(twin.shape[:2], bool), np.zeros(twin.shape[:2], bool)
    on[58:62, 50:110] = True
    off[35:85, 160 + 30 : 160 + 145] = True
    off[58:62, 50:60] = True  # over the other stroke, too
    found = mask_from_scribble(twin, on, off)
    assert iou(found[:, :160], mask) >= 0.9
    assert not found[off & ~on].any()
    assert found[on & ~off].all()


def test_a_large_photograph_is_cut_smaller() -> None:
    """12 megapixels; the mask comes back at their size, as good as its border is fine."""
    image, mask = drawn((300, 400), 0.3)
    large = np.asarray(Image.fromarray(image).resize((4000, 3000), Image.Resampling.NEAREST))
    truth = mask.repeat(10, axis=0).repeat(10, axis=1)
    assert iou(mask_from_box(large, box_of(truth)), truth) >= 0.95
    on = np.zeros_like(truth)
    on[1500:1502, 1400:2600] = True  # thinner than a pixel of the smaller picture
    assert iou(mask_from_scribble(large, on), truth) >= 0.95


def test_one_stroke_beside_the_object_leaves_it_whole() -> None:
    """On a ground of two halves, of which the stroke beside the object shows but one."""
    image, mask = drawn()
    near = np.random.default_rng(4).normal((170, 90, 60), 8, (*mask.shape, 3))
    left = ~mask & (np.arange(160) < 80)
    image[left] = near[left].astype(np.uint8)
    on, off = np.zeros_like(mask), np.zeros_like(mask)
    on[58:62, 50:110] = True
    off[10:110, 155:158] = True
    assert iou(mask_from_scribble(image, on, off), mask) >= 0.95


def test_boxes_of_real_photographs() -> None:
    """Against the photographs' masks (made with GrabCut, corrected by hand: see their page)."""
    found = []
    for path in MASKS:
        image = np.asarray(Image.open(path.with_suffix(".jpg")).convert("RGB"))
        mask = np.asarray(Image.open(path).convert("L")) >= 128
        cut = mask_from_box(image, box_of(mask))
        x, y, width, height = box_of(mask)
        assert cut[y : y + height, x : x + width].sum() == cut.sum()
        found.append(iou(cut, mask))
    assert np.mean(found) >= 0.88 and np.median(found) >= 0.94, found


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.data())
def test_any_box_gives_a_mask_or_says_why_not(height: int, width: int, data: st.DataObject) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    box = tuple(data.draw(st.integers(-1, 25)) for _ in range(4))
    x, y, w, h = box
    inside = np.zeros((height, width), bool)
    try:
        found = mask_from_box(image, box)
    except InputError:
        return
    assert min(x, y) >= 0 and x + w <= width and y + h <= height
    inside[y : y + h, x : x + w] = True
    assert found.any() and not found[~inside].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99), st.sampled_from([2, 30, 256]))
def test_any_scribble_gives_a_mask_or_says_why_not(
    height: int, width: int, seed: int, colours: int
) -> None:
    """Noise, or hardly two colours; strokes of one pixel up to nearly all of them."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, colours, (height, width, 3), np.uint8)
    on, off = (rng.random((height, width)) < rng.random() ** 3 for _ in range(2))
    for beside in (None, off):
        try:
            found = mask_from_scribble(image, on, beside)
        except InputError:
            continue
        both = on & off if beside is not None else on & False
        assert found[on & ~both].all()
        assert beside is None or not found[off & ~both].any()


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((10, 10, 0, 20), "empty"),
        ((10, 10, 20, -3), "empty"),
        ((-1, 10, 20, 20), "not inside"),
        ((150, 10, 20, 20), "not inside"),
        ((0, 0, 160, 120), "whole picture"),
    ],
)
def test_boxes_that_cannot_be(box: tuple[int, int, int, int], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        mask_from_box(drawn()[0], box)
    assert "160 x 120" in str(caught.value.found)


def test_scribbles_that_cannot_be() -> None:
    image, mask = drawn()
    none = np.zeros_like(mask)
    for on, off, says in (
        (none, None, "no scribble"),
        (mask, mask, "no scribble"),
        (~none, None, "nothing left"),
        (mask, ~mask, "nothing left"),
        (mask[1:], None, "size"),
        (mask.astype(np.uint8), None, "size"),
        (mask, none[:, 1:], "size"),
    ):
        with pytest.raises(InputError, match=says):
            mask_from_scribble(image, on, off)
    with pytest.raises(InputError, match="uint8"):
        mask_from_scribble(image[..., 0], mask)
    with pytest.raises(InputError, match="no object was found"):
        mask_from_box(np.full((60, 60, 3), 90, np.uint8), (20, 20, 20, 20))


def test_without_opencv_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "import numpy as np\n"
        "from hsnet_trt.errors import HSNetError\n"
        "from hsnet_trt.data.labels.grabcut import mask_from_box\n"
        "try: mask_from_box(np.zeros((9, 9, 3), np.uint8), (1, 1, 3, 3))\n"
        "except HSNetError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "OpenCV" in done.stdout and "hsnet-trt[labels]" in done.stdout
