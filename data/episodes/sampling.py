"""Which images make an episode: the authors' sampling for evaluation, an endless one to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from hsnet_trt.data.episodes.episode import Episode, Episodes, Image, Mask, Skipped
from hsnet_trt.data.episodes.files import resize_image, resize_mask
from hsnet_trt.errors import InputError

T = TypeVar("T")
Split = Literal["train", "val", "test"]
Random = np.random.RandomState | np.random.Generator
# (image, mask of the class, ignored pixels or None), all at the image's own size.
Loaded = tuple[Image, Mask, Mask | None]


@dataclass(frozen=True)
class Draw:
    """The names of the images of one episode."""

    class_id: int
    query: str
    supports: tuple[str, ...]


@dataclass(frozen=True)
class Sampler:
    """Draws episodes from lists of images.

    Attributes:
        by_class: class id -> image names, in the order that drawing relies on.
        queries: (image name, class id), used in order; None: class and query are drawn.
        shots: supports per episode.
        pool: class id and query -> names to draw supports from; None: the class's list.
    """

    by_class: Mapping[int, Sequence[str]]
    queries: Sequence[tuple[str, int]] | None
    shots: int
    pool: Callable[[int, str], Sequence[str]] | None = None

    def draw(self, rng: Random, index: int) -> Draw:
        """Draw one episode, using random numbers in the order of the authors' loaders."""
        if self.queries is None:
            class_id = pick(rng, list(self.by_class))
            query = pick(rng, self.by_class[class_id])
        else:
            query, class_id = self.queries[index % len(self.queries)]
        pool = self.by_class[class_id] if self.pool is None else self.pool(class_id, query)
        supports: list[str] = []
        while len(supports) < self.shots:
            name = pick(rng, pool)
            if name != query:
                supports.append(name)
        return Draw(class_id, query, tuple(supports))

    def plan(self, count: int) -> tuple[Draw, ...]:
        """Draw the episodes of the published protocol: one random stream with seed 0.

        RandomState(0) equals numpy.random after numpy.random.seed(0), without touching the global
        state.
        """
        rng = np.random.RandomState(0)
        return tuple(self.draw(rng, index) for index in range(count))

    def draw_endless(self, seed: int, index: int) -> Draw:
        """Draw episode `index` of an endless stream; the queries are reshuffled in every round."""
        rng = np.random.default_rng([seed, index])
        if self.queries is None:
            return self.draw(rng, index)
        rounds, place = divmod(index, len(self.queries))
        order = np.random.default_rng([seed, rounds, 1]).permutation(len(self.queries))
        return self.draw(rng, int(order[place]))


def pick(rng: Random, names: Sequence[T]) -> T:
    """Draw one as numpy.random.choice(names, 1, replace=False) does (which permutes them all)."""
    return names[int(rng.choice(len(names), 1, replace=False)[0])]


@dataclass(frozen=True)
class Reader:
    """Turns drawn names into episodes; `planned`: the protocol's draws, None if endless."""

    sampler: Sampler
    planned: tuple[Draw, ...] | None
    load: Callable[[str, int], Loaded]
    classes: Mapping[int, str]
    size: tuple[int, int]
    original_size: bool
    seed: int

    def __call__(self, index: int) -> Episode:
        """Read episode `index`."""
        if self.planned is None:
            draw = self.sampler.draw_endless(self.seed, index)
        else:
            draw = self.planned[index]
        query, mask, ignore = self.load(draw.query, draw.class_id)
        whole = query.shape[:2]
        if not self.original_size:
            mask = resize_mask(mask, self.size)
            ignore = None if ignore is None else resize_mask(ignore, self.size)
        views = [self.load(name, draw.class_id) for name in draw.supports]
        return Episode(
            query=resize_image(query, self.size),
            query_mask=mask,
            supports=np.stack([resize_image(image, self.size) for image, _, _ in views]),
            support_masks=np.stack([resize_mask(marked, self.size) for _, marked, _ in views]),
            class_id=draw.class_id,
            class_name=self.classes[draw.class_id],
            ignore=ignore,
            query_name=draw.query,
            support_names=draw.supports,
            original_size=(whole[0], whole[1]),
        )


def listed_episodes(
    name: str,
    sampler: Sampler,
    load: Callable[[str, int], Loaded],
    classes: Mapping[int, str],
    *,
    count: int | None,
    size: tuple[int, int],
    original_size: bool,
    seed: int,
) -> Episodes:
    """Combine a dataset's lists and reader; `count` None makes an endless training stream."""
    planned = None if count is None else sampler.plan(count)
    reader = Reader(sampler, planned, load, classes, size, original_size, seed)
    return Episodes(name, classes, reader, count)


def enough_images(
    by_class: Mapping[int, Sequence[str]],
    classes: Mapping[int, str],
    shots: int,
    where: str,
    skipped: Skipped | None,
    form: str = "",
) -> dict[int, Sequence[str]]:
    """The classes with at least shots + 1 images; the others raise, or go to `skipped`.

    `form` says in errors which files count as images.

    Raises:
        InputError: no support is asked for, no class is left, or `skipped` is None and a class is
            too small.
    """
    if shots < 1:
        raise InputError("an episode needs a support", expected="shots >= 1", found=shots)
    kept: dict[int, Sequence[str]] = {}
    for class_id, names in by_class.items():
        different = len(set(names))
        if different > shots:
            kept[class_id] = names
            continue
        error = InputError(
            f"class {classes[class_id]!r} of {where} has too few images for {shots} shots",
            expected=" ".join(filter(None, (f"at least {shots + 1}", form))),
            found=different,
            fix="add images, ask for fewer shots, or leave it out with --skip-bad",
        )
        if skipped is None:
            raise error
        skipped.add(error)
    if not kept:
        raise InputError(
            f"{where} has no class to draw from",
            expected=f"classes with at least {shots + 1} images",
            fix="check the folder, the fold and the split files",
        )
    return kept
