"""The mixture: the same by number, its shares, queries without the class, splits apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from hsnet_trt.data.drawn.mixture import ABSENT, PROCEDURAL, SHARES, mixture, mixture_casts
from hsnet_trt.data.drawn.videos import FEWEST, open_videos
from hsnet_trt.data.episodes.episode import Episode
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError

SIZE = (48, 64)
CLASSES = 10  # of each group: one to validate on, one to test


def thing(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
    mask = np.zeros((40, 50), np.bool_)
    mask[8:32, 10:40] = True
    return picture, mask


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for folder in SHARES:
        (root / folder).mkdir()
    for number in range(CLASSES):
        picture, mask = thing(number)
        Image.fromarray(picture).save(root / f"photographs/masked{number}.jpg")
        Image.fromarray(mask).save(root / f"photographs/masked{number}.png")
        Image.fromarray(picture).save(root / f"photographs/plain{number}.webp")
        for group, styles in (("cutouts", 1), ("drawings", 3)):
            (root / group / f"{group}{number}").mkdir()
            for style in range(styles):
                colours, _ = thing(100 * style + number)
                cut = np.dstack([colours, mask * np.uint8(255)])
                Image.fromarray(cut).save(root / group / f"{group}{number}" / f"{style}.webp")
    return root


def same(one: Episode, other: Episode) -> bool:
    pairs = [
        (one.query, other.query), (one.query_mask, other.query_mask),
        (one.supports, other.supports), (one.support_masks, other.support_masks),
    ]  # fmt: skip
    return all(np.array_equal(a, b) for a, b in pairs) and one.class_id == other.class_id


def test_an_episode_follows_from_its_number(root: Path) -> None:
    one, other = (mixture(root, size=SIZE, seed=3, shots=2) for _ in range(2))
    for number in (0, 7, 41):
        assert same(one[number], other[number])
        assert one[number].supports.shape == (2, *SIZE, 3)
        assert one[number].query.dtype == np.uint8 and one[number].query_mask.shape == SIZE
    assert not same(one[0], mixture(root, size=SIZE, seed=4, shots=2)[0])


def test_shares_are_as_written_and_supports_show_something(root: Path) -> None:
    episodes = list(mixture(root, size=SIZE).take(600))
    assert all(episode.support_masks.any() for episode in episodes)
    groups = Counter(e.class_name.split("/")[0] for e in episodes if "/" in e.class_name)
    wanted = {
        name: share / sum(SHARES.values()) * (1 - PROCEDURAL) for name, share in SHARES.items()
    }
    for name, share in wanted.items():
        assert groups[name] / 600 == pytest.approx(share, abs=0.06)
    empty = [e for e in episodes if not e.query_mask.any()]
    assert len(empty) / 600 == pytest.approx(ABSENT, abs=0.05)
    assert sum(SHARES.values()) + ABSENT + PROCEDURAL == pytest.approx(1)


def test_classes_of_the_splits_are_apart(root: Path) -> None:
    names = {
        split: {name for number, name in mixture(root, split=split).classes.items() if "/" in name}
        for split in ("train", "val", "test")
    }
    assert not names["train"] & names["val"] and not names["train"] & names["test"]
    # Masked photographs are there twice: in their place, and as cut-outs.
    assert len(names["val"]) == len(names["test"]) == 4 and len(names["train"]) == 4 * 8


def test_a_query_without_the_class_shows_none_of_it(tmp_path: Path, root: Path) -> None:
    """Every class has a colour that no other has; the camera changes it by little."""
    for group in SHARES:
        (tmp_path / group).mkdir()
    colours = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
    _, mask = thing(0)
    for number in range(3):
        Image.new("RGB", (50, 40), (128,) * 3).save(tmp_path / f"photographs/grey{number}.webp")
    Image.new("RGB", (50, 40), (30, 30, 30)).save(tmp_path / "photographs/dark.webp")
    Image.fromarray(mask).save(tmp_path / "photographs/dark.png")
    for name, colour in colours.items():
        for group in ("cutouts", "drawings"):
            (tmp_path / group / name).mkdir()
            cut = np.dstack([np.full((40, 50, 3), colour, np.uint8), mask * np.uint8(255)])
            Image.fromarray(cut).save(tmp_path / group / name / "a.png")
    looked = 0
    for episode in mixture(tmp_path, size=SIZE).take(300):
        name = episode.class_name.split("/")[-1]
        if episode.query_mask.any() or name not in colours:
            continue
        looked += 1
        channel = list(colours).index(name)
        others = np.delete(episode.query.astype(int), channel, axis=2).max(axis=2)
        shown = (episode.query[..., channel].astype(int) - others > 90).mean()
        assert shown < 0.05, episode.query_name
    assert looked > 10


def test_an_empty_part_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        mixture(tmp_path)
    (tmp_path / "photographs").mkdir()
    with pytest.raises(InputError, match="too few photographs"):
        mixture(tmp_path)
    for number in range(3):
        Image.fromarray(thing(number)[0]).save(tmp_path / f"photographs/{number}.webp")
    with pytest.raises(InputError, match=r"nothing to learn from in .*photographs"):
        mixture(tmp_path)
    assert Source(("mixture",), root=root, size=SIZE).open("val")[0].query.shape == (*SIZE, 3)


def test_photographs_of_the_same_name_in_several_folders_are_apart(
    root: Path, tmp_path: Path
) -> None:
    """Each is a class of its own, and there is always a background that shows another one."""
    picture, mask = thing(1)
    for folder in "abc":
        (tmp_path / "photographs" / folder).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / f"photographs/{folder}/1.jpg")
        Image.fromarray(mask).save(tmp_path / f"photographs/{folder}/1.png")
    for group in ("cutouts", "drawings"):
        (tmp_path / group).symlink_to(root / group)
    episodes = mixture(tmp_path, size=SIZE)
    names = {name for name in episodes.classes.values() if name.startswith("photographs/")}
    assert names == {f"photographs/{folder}/1" for folder in "abc"}
    for episode in episodes.take(20):
        assert episode.support_masks.any()


def test_photographs_that_differ_by_their_ending_alone_are_one_background(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "photographs").mkdir()
    for ending in ("jpg", "webp", "bmp"):
        Image.fromarray(thing(1)[0]).save(tmp_path / f"photographs/1.{ending}")
    for group in ("cutouts", "drawings"):
        (tmp_path / group).symlink_to(root / group)
    with pytest.raises(InputError, match="too few photographs"):
        mixture(tmp_path)


def test_videos_are_of_held_out_things_and_the_same_by_number(root: Path) -> None:
    names = set(mixture(root, split="test").classes.values())
    held_out = {name for name in names if name.startswith("cutouts/")}
    videos, again = (
        open_videos("mixture", root, size=SIZE, frames=FEWEST, seed=6, shots=2) for _ in range(2)
    )
    assert {videos[i].class_name for i in range(len(held_out))} == held_out, "each once a round"
    video = videos[0]
    assert video.supports.shape == (2, *SIZE, 3) and video.support_masks.any(axis=(1, 2)).all()
    assert np.array_equal(next(iter(video)).image, next(iter(again[0])).image)
    assert len(mixture_casts(root, size=SIZE)(0).others) == 4
    with pytest.raises(InputError, match="needs a folder"):
        open_videos("mixture")
