"""What the embedded API takes as supports, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.scenes import GREEN, RED, scene
from helpers.pictures.two_boxes import PLACE, QUERY, Shot

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.matching.support_set import SupportSet


@pytest.mark.parametrize(
    ("name", "images", "masks", "says"),
    [
        ("x", 2, 1, "pair up"),
        ("x", 0, 0, "pair up"),
        ("", 1, 1, "name"),
        (None, 1, 1, "name"),
        ("x", None, 1, "neither"),
        ("x", 1, None, "neither"),
    ],
)
def test_bad_support_calls(
    segmenter: FewShotSegmenter,
    red_shot: Shot,
    name: object,
    images: object,
    masks: object,
    says: str,
) -> None:
    image, mask = red_shot
    segmenter.set_support("kept", image, mask)
    shots = [image] * images if isinstance(images, int) else images
    planes = [mask] * masks if isinstance(masks, int) else masks
    with pytest.raises(InputError, match=says):
        segmenter.set_support(name, shots, planes)  # type: ignore[arg-type]
    assert segmenter.classes == ("kept",)


def test_errors_name_the_shot(segmenter: FewShotSegmenter, red_shot: Shot, tmp_path: Path) -> None:
    image, mask = red_shot
    with pytest.raises(InputError, match="mask of shot 2 of 'red'"):
        segmenter.set_support("red", [image, image], [mask, mask[:-1]])
    with pytest.raises(InputError, match="image of shot 1 of 'red'"):
        segmenter.set_support("red", [tmp_path / "no.jpg"], [mask])
    with pytest.raises(InputError, match="no class 'blue'"):
        segmenter.remove_support("blue")
    assert segmenter.classes == ()


def test_supports_are_cropped_about_their_objects(segmenter: FewShotSegmenter) -> None:
    """As if the caller had cropped them."""
    image = scene((200, 300), [(RED, (slice(80, 120), slice(150, 180))), (GREEN, PLACE)])
    mask = np.zeros((200, 300), bool)
    mask[80:120, 150:180] = True
    # The box is a fifth of the height and a tenth of the width.
    for crop, cut in (
        (1.5, (slice(70, 130), slice(120, 210))),
        (1, (slice(80, 120), slice(135, 195))),
    ):
        segmenter.set_support("by itself", [image, image], [mask, mask], crop=crop)
        segmenter.set_support("by hand", [image[cut]] * 2, [mask[cut]] * 2)
        found = segmenter.segment(QUERY).scores
        np.testing.assert_array_equal(found["by itself"], found["by hand"])
    with pytest.warns(HSNetWarning, match="vanishes at feature level 4"):
        segmenter.set_support("whole", image, mask)
    with pytest.warns(HSNetWarning, match="vanishes at feature level 4"):
        segmenter.set_support("far more", image, mask, crop=9)
    scores = segmenter.segment(QUERY).scores
    np.testing.assert_array_equal(scores["far more"], scores["whole"])
    assert not np.allclose(scores["whole"], scores["by hand"], atol=1e-3)


@pytest.mark.parametrize("crop", [0.99, 0, -1.5, float("nan")])
def test_no_crop_cuts_into_the_object(
    segmenter: FewShotSegmenter, red_shot: Shot, crop: float
) -> None:
    segmenter.set_support("kept", *red_shot)
    with pytest.raises(
        InputError, match="supports of 'red' cannot be cropped so closely"
    ) as caught:
        segmenter.set_support("red", *red_shot, crop=crop)
    assert caught.value.found == str(crop)
    assert segmenter.classes == ("kept",)


def test_tiny_masks(segmenter: FewShotSegmenter) -> None:
    image = np.full((960, 1280, 3), RED, np.uint8)
    lost, small = np.zeros((960, 1280), bool), np.zeros((960, 1280), bool)
    lost[1, 1] = True
    with pytest.raises(InputError, match="too small"):
        segmenter.set_support("x", image, lost)
    small[80:180, 80:180] = True
    with pytest.warns(HSNetWarning, match="shot 1 of 'x' .* vanishes at feature level 3, 4"):
        segmenter.set_support("x", image, small)
    assert segmenter.classes == ("x",)


def test_too_many_classes(segmenter: FewShotSegmenter, red_shot: Shot) -> None:
    segmenter.set_support("0", *red_shot)
    encoded = segmenter._current.supports.classes["0"]
    segmenter._current.change(lambda _: SupportSet({str(i): encoded for i in range(255)}))
    with pytest.raises(InputError, match="too many classes"):
        segmenter.set_support("one more", *red_shot)
    segmenter.set_support("7", *red_shot)
    assert len(segmenter.classes) == 255
