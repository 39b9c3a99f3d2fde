"""Drawn videos: the same bytes by seed, smooth, and truth and motion as the pictures show them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.data_sets.tiny_sets import write_cutouts
from helpers.data_sets.videos import digest
from helpers.places import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from hsnet_trt.data.drawn.camera import Exposure
from hsnet_trt.data.drawn.motion import path, similarity, turned_card, wander
from hsnet_trt.data.drawn.photo_cut import photo_cut
from hsnet_trt.data.drawn.procedural import procedural, split_classes
from hsnet_trt.data.drawn.render import Cutout
from hsnet_trt.data.drawn.scene import Layer, Scene, VideoFrame
from hsnet_trt.data.drawn.videos import FEWEST, Video, open_videos
from hsnet_trt.errors import InputError

SIZE = (60, 80)
PLAIN = Exposure(np.ones((2, 2, 3), np.float32), 0, 0, 1, 1, 0)  # a camera that adds nothing


@cache
def drawn(index: int) -> tuple[Video, tuple[VideoFrame, ...]]:
    video = open_videos(size=SIZE, seed=7)[index]
    return video, tuple(video)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of our own drawing, and cut-outs of ten classes, the first of two pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for k, episode in enumerate(procedural(size=(90, 120), seed=8).take(6)):
        Image.fromarray(episode.query).save(root / f"p{k}.jpg", quality=95)
    write_cutouts(root / "things")
    return root


@pytest.mark.parametrize("source", ["procedural", "photo-cut"])
def test_the_same_seed_is_the_same_bytes_in_another_process(source: str, pictures: Path) -> None:
    def opened(seed: int) -> Video:
        return open_videos(source, pictures, shots=2, size=SIZE, frames=FEWEST, seed=seed)[1]

    video = opened(4)
    own = digest(video)
    assert own == digest(video), "drawn again"
    assert own != digest(opened(5))
    code = (
        "import sys; from pathlib import Path; from helpers.data_sets.videos import digest;"
        "from hsnet_trt.data.drawn.videos import open_videos;"
        "videos = open_videos(sys.argv[1], Path(sys.argv[2]), shots=2, size=(60, 80), frames=48,"
        " seed=4); videos[0]; print(digest(videos[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, str(pictures)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == own, done.stderr


@pytest.mark.parametrize("index", range(4))
def test_the_object_leaves_for_a_while_and_comes_back(index: int) -> None:
    video, frames = drawn(index)
    assert len(frames) == len(video) == 96
    visible = np.array([frame.visible for frame in frames])
    assert visible[0] and visible[-1]
    changes = np.flatnonzero(np.diff(visible.astype(int)))
    assert len(changes) in (2, 4), "it leaves, and a screen may hide it"
    runs = np.diff(changes)[::2]
    assert runs.min() >= 8 and runs.max() >= 12
    assert visible.mean() > 0.5
    areas = [frame.truth.mean() for frame in frames]
    assert 0.02 < max(areas) < 0.6


@pytest.mark.parametrize("index", range(4))
def test_frames_follow_each_other_smoothly(index: int) -> None:
    _, frames = drawn(index)
    diagonal = np.hypot(*SIZE)
    centres = [
        np.argwhere(frame.truth).mean(axis=0) if frame.truth.sum() > 60 else None
        for frame in frames
    ]
    steps = [
        np.linalg.norm(b - a) for a, b in itertools.pairwise(centres)
        if a is not None and b is not None
    ]  # fmt: skip
    assert 0 < np.median(steps) < 0.03 * diagonal and max(steps) < 0.1 * diagonal
    # Pixels near in time are near in colour, those far apart are not.
    images = np.stack([frame.image for frame in frames]).astype(float)
    near = np.abs(images[1:] - images[:-1]).mean()
    far = np.abs(images[48:] - images[:-48]).mean()
    assert near < 0.6 * far


@pytest.mark.parametrize("index", range(2))
def test_a_pixel_came_from_where_it_looked_the_same(index: int) -> None:
    """Along the motion, a frame differs from the one before by less than in place."""
    _, frames = drawn(index)
    assert (frames[0].origin == -1).all()
    moved, unmoved = [], []
    for before, frame in itertools.pairwise(frames):
        seen = frame.origin[..., 0] >= 0
        assert seen.mean() > 0.5
        rows, columns = frame.origin[seen].T
        now = frame.image[seen].astype(float)
        moved.append(np.abs(now - before.image[rows, columns]).mean())
        unmoved.append(np.abs(now - before.image[seen]).mean())
        assert (frame.truth[seen] == before.truth[rows, columns]).all()
    assert np.mean(moved) < 0.8 * np.mean(unmoved)


def layer(colour: tuple[int, int, int], size: tuple[int, int], x: list, y: list) -> Layer:
    picture = np.full((*size, 3), colour, np.float32)
    one, none = np.ones(len(x)), np.zeros(len(x))
    moves = similarity(np.array(x, float), np.array(y, float), one, none)
    return Layer(Cutout(picture, np.ones(size, np.float32)), moves, wanted=colour == (255, 0, 0))


def test_truth_and_motion_of_a_scene_made_by_hand() -> None:
    """A red box moves right by 5, behind a blue one that stays; the ground stays, too."""
    layers = (
        layer((90, 90, 90), (40, 60), [0, 0, 0], [0, 0, 0]),
        layer((255, 0, 0), (10, 12), [10, 15, 70], [8, 8, 8]),
        layer((0, 0, 255), (6, 10), [24, 24, 24], [6, 6, 6]),
    )
    scene = Scene((40, 60), layers, (PLAIN,) * 3, np.zeros((3, 2), np.int64))
    first, second, third = scene.play()
    truth = np.zeros((40, 60), np.bool_)
    truth[8:18, 15:27] = True
    truth[6:12, 24:34] = False
    assert (second.truth == truth).all()
    assert ((second.image == (255, 0, 0)).all(axis=-1) == truth).all()
    assert first.visible and not third.visible
    origin = np.stack(np.mgrid[:40, :60], axis=-1)
    origin[truth] -= (0, 5)
    origin[8:18, 10:15] = -1  # ground that the box hid before
    assert (second.origin == origin).all()
    appeared = np.zeros((40, 60), np.bool_)
    appeared[8:18, 15:27] = True
    appeared[6:12, 24:34] = False
    assert ((third.origin == -1).all(axis=-1) == appeared).all()


def test_supports_show_the_object_elsewhere(pictures: Path) -> None:
    videos = open_videos("photo-cut", pictures, shots=3, size=SIZE, frames=FEWEST)
    held_out = {n for n in photo_cut(pictures, split="test").classes.values() if "things" in n}
    assert {videos[i].class_name for i in range(4)} == held_out, "a round has every class"
    video = videos[0]
    assert video.supports.shape == (3, *SIZE, 3) and video.supports.dtype == np.uint8
    assert video.support_masks.shape == (3, *SIZE) and video.support_masks.dtype == np.bool_
    assert video.support_masks.any(axis=(1, 2)).all()
    first = next(iter(video))
    assert first.image.shape == (*SIZE, 3) and first.image.dtype == np.uint8
    assert first.truth.dtype == np.bool_ and first.origin.dtype == np.int16
    assert all((first.image != support).any() for support in video.supports)
    assert drawn(0)[0].class_name in split_classes("test").values()


def test_what_makes_no_sense_is_refused(pictures: Path) -> None:
    with pytest.raises(InputError, match="too short"):
        open_videos(frames=FEWEST - 1)
    with pytest.raises(InputError, match="no videos of 'coco'"):
        open_videos("coco")
    with pytest.raises(InputError, match="needs a folder"):
        open_videos("photo-cut")
    with pytest.raises(InputError, match="support"):
        open_videos(shots=0)
    with pytest.raises(InputError, match="seed"):
        open_videos(seed=-1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=7), st.integers(2, 200),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_path_stays_between_its_keys(values: list[float], frames: int, seed: int) -> None:
    times = np.sort(np.random.default_rng(seed).uniform(0, 1, len(values)))
    track = path([(t, (v, 3.0)) for t, v in zip(times, values, strict=True)], frames)
    assert track.shape == (frames, 2)
    assert (track[:, 0] >= min(values) - 1e-9).all() and (track[:, 0] <= max(values) + 1e-9).all()
    np.testing.assert_allclose(track[:, 1], 3)


def test_a_path_takes_its_corners_round() -> None:
    """There and back: the speed does not change from one frame to the next."""
    track = path([(0.1, (0.0,)), (0.5, (40.0,)), (0.9, (0.0,))], 96)[:, 0]
    steps = np.diff(track)
    assert np.abs(steps).max() == pytest.approx(40 / (0.4 * 95), rel=1e-3)
    assert np.abs(np.diff(steps)).max() < 0.25 * np.ptp(steps)


def test_a_wandering_track_is_within_its_spread() -> None:
    tracks = np.stack([wander(np.random.default_rng(k), (0.5, 0), 60) for k in range(50)])
    assert np.abs(tracks[..., 0]).max() <= 1 and tracks[..., 0].std() > 0.1
    assert (tracks[..., 1] == 0).all()


def test_a_card_is_turned_about_its_middle() -> None:
    size, angle = (41, 61), 0.7
    turns = np.array([0.0, angle, 0.0, 0.0])
    yaw, pitch = np.array([0, 0, angle, 0]), np.array([0, 0, 0, angle])
    corners = np.array([[30, 20], [60, 20], [30, 40], [0, 20]])  # middle, right, below, left
    seen = turned_card(size, turns, yaw, pitch) @ np.c_[corners, np.ones(4)].T
    x, y = seen[:, 0] / seen[:, 2], seen[:, 1] / seen[:, 2]
    np.testing.assert_allclose([x[:, 0], y[:, 0]], 0, atol=1e-9)
    np.testing.assert_allclose((x[0], y[0]), ([0, 30, 0, -30], [0, 0, 20, 0]), atol=1e-9)
    np.testing.assert_allclose([x[1, 1], y[1, 1]], [30 * np.cos(angle), 30 * np.sin(angle)])
    # One side comes nearer, the other goes away, both narrower; the upright axis stays.
    assert 0 < min(x[2, 1], -x[2, 3]) < 30 * np.cos(angle) < max(x[2, 1], -x[2, 3]) < 30
    np.testing.assert_allclose(y[2], [0, 0, 20, 0], atol=1e-9)
    np.testing.assert_allclose(x[3], [0, 30, 0, -30], atol=1e-9)
