"""Harder forms of episodes: half of each picture shows another class, or the class is absent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.episode import Episode, Episodes, Image, Mask
from hsnet_trt.data.episodes.files import resize_image, resize_mask
from hsnet_trt.errors import InputError

FORMS = ("clean", "mosaic", "absent")
_TRIES = 1000  # draws without another class, after which there is taken to be none


def in_form(episodes: Episodes, form: str, seed: int = 0) -> Episodes:
    """Change the form of episodes; number i gives the same episode on every call.

    - "clean": unchanged.
    - "mosaic": half of every picture, query and supports alike, shows another class, so that the
      salient object is not always the right one. The halves are stacked if the query is wider than
      high, else side by side; which half shows which class is random for each picture.
    - "absent": the query is a picture of another class, and its true mask is empty.

    Args:
        episodes: of pictures that show their own class only, with masks of the queries' size.
        form: one of `FORMS`.
        seed: of the random choices.

    Raises:
        InputError: no such form, or fewer than two classes.
    """
    if form not in FORMS:
        raise InputError(f"there is no form {form!r} of episodes", expected=", ".join(FORMS))
    if form == "clean":
        return episodes
    if len(episodes.classes) < 2:
        raise InputError(
            f"{episodes.name} has no other class to show",
            expected="two classes at least",
            found=", ".join(episodes.classes.values()),
        )
    make: Callable[[int], Episode]
    make = _Mosaic(episodes, seed) if form == "mosaic" else _Absent(episodes, seed)
    return Episodes(f"{episodes.name}, {form}", episodes.classes, make, episodes.count)


def _others(episodes: Episodes, episode: Episode, rng: np.random.Generator) -> Iterator[Episode]:
    """Yield random episodes of other classes, without end.

    Raises:
        InputError: hardly any episode is of another class, though several classes are listed.
    """
    numbers = 1_000_000 if episodes.count is None else episodes.count
    missed = 0
    while missed < _TRIES:
        drawn = episodes[int(rng.integers(numbers))]
        missed += 1
        if drawn.class_id != episode.class_id:
            missed = 0
            yield drawn
    raise InputError(
        f"{episodes.name} shows no other class than {episode.class_name}",
        expected=", ".join(episodes.classes.values()),
        found=f"{episode.class_name} in {_TRIES} episodes drawn at random",
    )


@dataclass(frozen=True)
class _Absent:
    episodes: Episodes
    seed: int

    def __call__(self, index: int) -> Episode:
        episode = self.episodes[index]
        rng = np.random.default_rng([self.seed, index])
        other = next(_others(self.episodes, episode, rng))
        return dataclasses.replace(
            episode,
            query=other.query,
            query_mask=np.zeros_like(other.query_mask),
            ignore=None,
            query_name=other.query_name,
            original_size=other.original_size,
        )


@dataclass(frozen=True)
class _Mosaic:
    episodes: Episodes
    seed: int

    def __call__(self, index: int) -> Episode:
        episode = self.episodes[index]
        rng = np.random.default_rng([self.seed, index])
        others = _others(self.episodes, episode, rng)
        height, width = episode.original_size
        halves = _Halves(stacked=width > height, size=_size(episode.query))
        query_first = bool(rng.integers(2))
        supports, masks = [], []
        for image, mask in zip(episode.supports, episode.support_masks, strict=True):
            first = bool(rng.integers(2))
            supports.append(halves.picture(image, next(others).query, first))
            masks.append(halves.mask(mask, first))
        ignore = episode.ignore
        return dataclasses.replace(
            episode,
            query=halves.picture(episode.query, next(others).query, query_first),
            query_mask=halves.mask(episode.query_mask, query_first),
            supports=np.stack(supports),
            support_masks=np.stack(masks),
            ignore=None if ignore is None else halves.mask(ignore, query_first),
        )


@dataclass(frozen=True)
class _Halves:
    """A picture of `size` in two halves: stacked (`stacked`), or side by side."""

    stacked: bool
    size: tuple[int, int]

    def picture(self, own: Image, other: Image, own_first: bool) -> Image:
        both = [
            resize_image(image, part)
            for image, part in zip(
                (own, other) if own_first else (other, own), self._parts(), strict=True
            )
        ]
        return np.concatenate(both, axis=0 if self.stacked else 1)

    def mask(self, own: Mask, own_first: bool) -> Mask:
        first, second = self._parts()
        here, there = (first, second) if own_first else (second, first)
        both: list[npt.NDArray[np.bool_]] = [resize_mask(own, here), np.zeros(there, np.bool_)]
        return np.concatenate(both if own_first else both[::-1], axis=0 if self.stacked else 1)

    def _parts(self) -> tuple[tuple[int, int], tuple[int, int]]:
        height, width = self.size
        if self.stacked:
            return (height // 2, width), (height - height // 2, width)
        return (height, width // 2), (height, width - width // 2)


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
