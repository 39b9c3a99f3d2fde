"""Ids that stay, things that come and go, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from hsnet_trt import Segmentation, Tracker  # noqa: E402
from hsnet_trt.errors import InputError  # noqa: E402
from hsnet_trt.runtime.video import records  # noqa: E402
from hsnet_trt.runtime.video.instances import (  # noqa: E402
    Instance,
    draw_instances,
    find_parts,
    overlap,
    supervision_instances,
)

SIZE = (120, 160)
RED, BLUE = (220, 30, 30), (30, 30, 220)
Thing = tuple[tuple[int, int, int], int, int]  # colour, x, y of a box of 20 x 20


def frame(things: list[Thing], *, scores: bool = True) -> tuple[Segmentation, np.ndarray]:
    picture, mask = np.full((*SIZE, 3), 90, np.uint8), np.zeros(SIZE, bool)
    for colour, x, y in things:
        rows, columns = slice(max(0, y), y + 20), slice(max(0, x), x + 20)
        picture[rows, columns], mask[rows, columns] = colour, True
    maps = {"mug": np.where(mask, np.float32(0.75), np.float32(0.1))}
    labels = mask.astype(np.uint8)
    return Segmentation({"mug": mask}, maps if scores else {}, labels, ("mug",), {}), picture


def track(videos: list[list[Thing]]) -> tuple[list[dict[int, Instance]], list]:
    tracker, found, events = Tracker(), [], []
    for number, things in enumerate(videos):
        found.append({one.id: one for one in tracker.update(*frame(things), number)})
        events += tracker.events
    return found, [*events, *tracker.finish()]


def test_parts_are_what_opencv_free_labelling_finds() -> None:
    rng = np.random.default_rng(0)
    mask = cv2.resize(rng.random((12, 16)), (160, 120)) > 0.6
    result = Segmentation({"mug": mask}, {}, mask.astype(np.uint8), ("mug",), {})
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = [int(a) for a in np.bincount(labels.ravel())[1:] if a >= mask.size / 1000]
    parts = find_parts(result, np.zeros((*SIZE, 3), np.uint8))
    assert count > 2 and sorted(p.area for p in parts) == sorted(areas)
    for part in parts:
        x, y, width, height = part.box
        assert part.inside.shape == (height, width) and part.inside.sum() == part.area
        assert part.score is None and part.colours[0] == 1
        assert overlap(part, part) == 1
        assert (mask[y : y + height, x : x + width] >= part.inside).all()


def test_overlap_is_that_of_whole_masks() -> None:
    def whole(mask: np.ndarray) -> tuple:
        result = Segmentation({"a": mask}, {}, mask.astype(np.uint8), ("a",), {})
        (part,) = find_parts(result, np.zeros((*SIZE, 3), np.uint8))
        return mask, part

    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    one, a = whole((rows - 50) ** 2 + (columns - 60) ** 2 < 900)
    other, b = whole((rows - 60) ** 2 + (columns - 85) ** 2 < 700)
    _, c = whole((rows - 100) ** 2 + (columns - 140) ** 2 < 100)
    assert overlap(a, b) == pytest.approx((one & other).sum() / (one | other).sum())
    assert overlap(a, c) == 0


def test_things_that_cross_keep_their_ids() -> None:
    """They pass above each other, a red and a blue one, and jump by more than they overlap."""
    videos = [[(RED, 4 + 6 * k, 30), (BLUE, 130 - 6 * k, 52)] for k in range(20)]
    found, events = track(videos)
    for number in range(3, 20):
        assert set(found[number]) == {1, 2}
        red, blue = found[number][1], found[number][2]
        if red.box[1] == blue.box[1]:  # they touch, as one part
            continue
        assert (red.box[1], blue.box[1]) == (30, 52)
        assert red.first_seen == 0 and red.frame == number
    assert [(e.kind, e.id) for e in events] == [
        ("entered", 1), ("entered", 2), ("left", 1), ("left", 2),
    ]  # fmt: skip


def test_events_tell_the_box_of_their_own_frame() -> None:
    events = track([[]] * 3 + [[(RED, 4 + 6 * k, 30)] for k in range(8)])[1]
    came, left = events
    assert (came.kind, came.frame, came.box[:2]) == ("entered", 3, (4, 30))
    assert (left.kind, left.frame, left.box[:2]) == ("left", 10, (46, 30))


def test_what_comes_back_has_the_id_that_it_had() -> None:
    here = [(RED, 60, 50)]
    videos = [here] * 8 + [[]] * 30 + [[(RED, 10, 80)]] * 8
    found, events = track(videos)
    assert not found[1] and set(found[2]) == {1} and set(found[45]) == {1}
    assert found[45][1].first_seen == 0
    kinds = [(e.kind, e.id, e.frame) for e in events]
    assert kinds == [("entered", 1, 0), ("left", 1, 7), ("entered", 1, 38), ("left", 1, 45)]
    other = track([here] * 8 + [[]] * 30 + [[(BLUE, 10, 80)]] * 8)[1]
    assert [e.id for e in other] == [1, 1, 2, 2]


def test_a_short_gap_is_no_leaving_and_a_flash_no_entering() -> None:
    here = [(RED, 60, 50)]
    found, events = track([here] * 8 + [[]] * 5 + [here] * 8)
    assert [e.kind for e in events] == ["entered", "left"] and events[1].frame == 20
    assert not found[9] and set(found[13]) == {1}
    assert track([[], here, here, [], [], [], [], here, []])[1] == []


@pytest.mark.parametrize(
    ("unseen", "by", "ids"),
    [(0, 40, [1]), (0, 44, [1, 2]), (1, 80, [1]), (1, 88, [1, 2]), (10, 130, [1])],
)
def test_a_thing_may_jump_by_one_and_a_half_diagonals_a_frame(
    unseen: int, by: int, ids: list[int]
) -> None:
    """The diagonal of 20 x 20 is 28.3; ten frames unseen, and it may be anywhere."""
    here, there = [(RED, 4, 50)], [(RED, 4 + by, 50)]
    found, _ = track([here] * 5 + [[]] * unseen + [there] * 5)
    assert [list(things) for things in (found[4], found[-1])] == [[1], ids[-1:]]


def test_where_two_overlap_alike_colours_decide() -> None:
    found, _ = track([[(RED, 60, 50)]] * 5 + [[(BLUE, 49, 50), (RED, 71, 50)]] * 5)
    assert {id_: thing.box[0] for id_, thing in found[-1].items()} == {1: 71, 2: 49}


@pytest.mark.parametrize(("gap", "kinds"), [(9, 2), (10, 4)])
def test_ten_frames_unseen_are_a_leaving(gap: int, kinds: int) -> None:
    here = [(RED, 60, 50)]
    _, events = track([here] * 5 + [[]] * gap + [here] * 5)
    assert len(events) == kinds and {event.id for event in events} == {1}


@pytest.mark.parametrize(("gap", "last"), [(299, 1), (300, 2)])
def test_a_thing_is_known_for_three_hundred_frames(gap: int, last: int) -> None:
    here = [(RED, 60, 50)]
    _, events = track([here] * 5 + [[]] * gap + [here] * 5)
    assert events[-1].id == last


def test_the_masks_together_are_the_result_less_crumbs() -> None:
    things = [(RED, 10, 10), (BLUE, 80, 60)]
    tracker = Tracker()
    for number in range(3):
        result, picture = frame(things)
        found = tracker.update(result, picture, number)
    assert (np.logical_or(found[0].mask, found[1].mask) == result.masks["mug"]).all()
    assert [one.area for one in found] == [400, 400] and found[0].score == pytest.approx(0.75)
    with pytest.raises(InputError, match="does not follow"):
        tracker.update(result, picture, 2)
    with pytest.raises(InputError, match="does not follow"):
        tracker.update(result, picture[:50], 3)


def thing() -> Instance:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 40:70] = True
    return Instance(7, "mug", 1, (40, 10, 30, 20), 600, 0.87654, mask, 3, 12)


def test_coco_lines_hold_the_mask_and_mot_lines_count_from_one() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    row = json.loads(records.coco_line(thing()))
    assert (row["image_id"], row["category_id"], row["track_id"]) == (12, 2, 7)
    assert row["bbox"] == [40, 10, 30, 20] and row["area"] == 600 and row["first_seen"] == 3
    assert (coco.decode(row["segmentation"]).astype(bool) == thing().mask).all()


def test_mot_lines_count_from_one() -> None:
    assert records.mot_line(thing()) == "13,7,41,11,30,20,0.8765,-1,-1,-1"
    with pytest.raises(InputError, match=r"\.jsonl"):
        records.format_of(Path("tracks.csv"))


def test_supervision_gets_tracker_ids() -> None:
    supervision = pytest.importorskip("supervision")
    made = supervision_instances([thing()], SIZE)
    assert isinstance(made, supervision.Detections)
    assert made.tracker_id.tolist() == [7] and made.xyxy.tolist() == [[40, 10, 70, 30]]
    assert made.class_id.tolist() == [1] and made.data["class_name"].tolist() == ["mug"]
    assert len(supervision_instances([], SIZE)) == 0


@pytest.mark.parametrize("bgr", [False, True])
def test_boxes_are_drawn_in_the_colour_of_the_class(bgr: bool) -> None:
    from hsnet_trt.runtime.pictures.overlay import class_colour

    picture = np.zeros((*SIZE, 3), np.uint8)
    if bgr:
        picture = picture[:, :, ::-1]
    draw_instances(picture, [thing()])
    assert tuple(picture[29, 60]) == tuple(picture[20, 40]) == class_colour(1)
    assert not picture[20, 50].any() and not picture[80:].any()
