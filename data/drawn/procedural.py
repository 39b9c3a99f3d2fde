"""Endless drawn episodes; a class is a pair of a shape and a surface.

Every picture shows the object among others that share its colours, its surface or its shape, but
never both shape and surface, before a background that may have its colours too. Neither colour nor
outline alone identifies the object.

Training, validation and test use disjoint pairs of shape family and pattern family. Every family
occurs in training, but a pair of validation or test never does, not even as a distractor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hsnet_trt.data.drawn import textures
from hsnet_trt.data.drawn.camera import camera
from hsnet_trt.data.drawn.cast import LENGTH, Cast, ground_size
from hsnet_trt.data.drawn.drawn_episode import best_view, drawn_episode
from hsnet_trt.data.drawn.render import (
    Cutout,
    Material,
    Thing,
    background,
    draw_light,
    draw_thing,
    paste,
    window,
)
from hsnet_trt.data.drawn.shapes import families as shapes
from hsnet_trt.data.episodes.episode import Episode, Episodes, Image, Mask
from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError

PAIRS = len(shapes.FAMILIES) * len(textures.FAMILIES)
# Classes (own proportions, pattern, colours) per pair of families; one is enough for judging.
VARIANTS = {"train": 24, "val": 1, "test": 1}
# Patterns per family and split (few enough to cache them all), and palettes per split.
_PATTERNS, _PALETTES = 40, 1000
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_ROTA: tuple[Split, ...] = ("test", "val", "train", "train", "train")
_TRIES = 40  # pictures up to 1:10 take 6 at most; in narrower ones an object can be too small
_VISIBLE = 0.55  # least share of the object that other things leave visible

Random = np.random.Generator


def pair_split(shape: int, pattern: int) -> Split:
    """The split of a pair of families: three fifths are train, one fifth val, one fifth test."""
    kind: Split = _ROTA[(shape + 2 * pattern) % 5]
    return kind


@functools.cache
def split_classes(split: Split) -> dict[int, str]:
    """Class id -> name for every class of a split. Ids are unique over all splits."""
    names = {}
    for variant in range(VARIANTS[split]):
        for pair in range(PAIRS):
            shape, pattern = divmod(pair, len(textures.FAMILIES))
            if pair_split(shape, pattern) == split:
                name = f"{textures.NAMES[pattern]} {shapes.NAMES[shape]}"
                names[variant * PAIRS + pair] = f"{name} {variant}" if variant else name
    return names


def procedural(
    *,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Episodes:
    """Open the endless drawn episodes; each round of len(classes) episodes has every class once.

    Args:
        split: "train", "val" or "test": disjoint classes.
        shots: supports per episode.
        size: (height, width) at which episodes are drawn, at least 32 each.
        seed: another seed gives other episodes of the same classes.

    Raises:
        InputError: the size or the number of shots is too small.
    """
    draw = _open(split, shots, size, seed)
    return Episodes(f"procedural {split}", split_classes(split), draw, None)


def procedural_casts(
    *, split: Split = "test", shots: int = 1, size: tuple[int, int] = (240, 320), seed: int = 0
) -> Callable[[int], Cast]:
    """Open the casts of drawn videos, by number; arguments and errors are those of `procedural`."""
    return _open(split, shots, size, seed).cast


def _open(split: Split, shots: int, size: tuple[int, int], seed: int) -> _Draw:
    if shots < 1:
        raise InputError("an episode needs a support", expected="shots >= 1", found=shots)
    if min(size) < 32:
        raise InputError(
            "the pictures are too small to draw in", expected="32 x 32 or more", found=size
        )
    return _Draw(split, shots, size, seed)


@functools.lru_cache(maxsize=8192)
def make_class(class_id: int) -> Thing:
    """The object of a class; always the same one."""
    shape, pattern = divmod(class_id % PAIRS, len(textures.FAMILIES))
    rng = np.random.default_rng([class_id, 31])
    first_key = 1000 * (1 + _SPLITS.index(pair_split(shape, pattern)))
    families = [pattern, *rng.integers(0, len(textures.FAMILIES), 2)]
    first, second, third = (
        Material(
            int(family),
            first_key + int(rng.integers(_PATTERNS)),
            textures.palette(first_key * 100 + int(rng.integers(_PALETTES))),
            float(rng.uniform(0.55, 1.1)),
        )
        for family in families
    )
    return Thing(
        parts=shapes.build(shape, class_id),
        materials=(first, second, third),
        bulge=float(rng.uniform(0.1, 1.0)),
        gloss=float(rng.choice([0, 0, rng.uniform(0.2, 0.8)])),
        ink=float(rng.choice([0, 0, rng.uniform(0.2, 0.7)])),
    )


@dataclass(frozen=True)
class _Draw:
    split: Split
    shots: int
    size: tuple[int, int]
    seed: int

    def __call__(self, index: int) -> Episode:
        class_id = self._class(index)
        start = _SPLITS.index(self.split)
        rng = np.random.default_rng([self.seed, index, start, 43])
        views = [self._view(rng, class_id) for _ in range(self.shots + 1)]
        name = f"procedural/{self.split}/{self.seed}/{index}"
        class_name = split_classes(self.split)[class_id]
        return drawn_episode(views[0], views[1:], class_id, class_name, name)

    def cast(self, index: int) -> Cast:
        """Draw the parts of video `index`."""
        class_id = self._class(index)
        bank = _SPLITS.index(self.split)
        rng = np.random.default_rng([self.seed, index, bank, 53])
        views = [self._view(rng, class_id) for _ in range(self.shots)]
        target, light = make_class(class_id), draw_light(rng)
        things = [distractor(rng, class_id, self.split) for _ in range(int(rng.integers(3, 6)))]
        length = LENGTH * min(self.size)
        hidden = target.materials[0].palette if rng.random() < 0.4 else None
        return Cast(
            class_name=split_classes(self.split)[class_id],
            supports=np.stack([image for image, _ in views]),
            support_masks=np.stack([mask for _, mask in views]),
            target=draw_thing(target, length, light, rng),
            others=tuple(draw_thing(thing, length, light, rng) for thing in things),
            ground=background(rng, ground_size(self.size), bank, hidden),
            screen=background(rng, self.size, bank),
        )

    def _class(self, index: int) -> int:
        """The class of an episode; each round has every class once, in another order."""
        ids = list(split_classes(self.split))
        rounds, place = divmod(index, len(ids))
        start = _SPLITS.index(self.split)
        order = np.random.default_rng([self.seed, rounds, start, 41]).permutation(len(ids))
        return ids[int(order[place])]

    def _view(self, rng: Random, class_id: int) -> tuple[Image, Mask]:
        target = make_class(class_id)
        others = [distractor(rng, class_id, self.split) for _ in range(int(rng.integers(2, 6)))]

        def draw() -> tuple[Image, Mask]:
            return draw_scene(rng, target, others, self.size, _SPLITS.index(self.split))

        return best_view(draw, "the object", "choose a size nearer to a square", _TRIES)


def distractor(rng: Random, class_id: int, split: Split) -> Thing:
    """Another object, often with the target's colours, surface or shape, but never the target."""
    ids = list(split_classes(split))
    other_id = class_id
    while other_id % PAIRS == class_id % PAIRS:
        other_id = ids[int(rng.integers(len(ids)))]
    target, other = make_class(class_id), make_class(other_id)
    kind = rng.choice(["colours", "surface", "shape", "other"], p=[0.35, 0.15, 0.25, 0.25])
    shape, pattern = divmod(class_id % PAIRS, len(textures.FAMILIES))
    other_shape, other_pattern = divmod(other_id % PAIRS, len(textures.FAMILIES))
    if kind == "colours" or (kind == "surface" and pair_split(other_shape, pattern) != split):
        a, b, c = (
            replace(own, palette=its.palette)
            for own, its in zip(other.materials, target.materials, strict=True)
        )
        return replace(other, materials=(a, b, c))
    if kind == "surface" and other_shape != shape:
        return replace(other, materials=target.materials)
    if kind == "shape" and other_pattern != pattern and pair_split(shape, other_pattern) == split:
        return replace(other, parts=target.parts)
    return other


def draw_scene(
    rng: Random, target: Thing, others: list[Thing], size: tuple[int, int], bank: int
) -> tuple[Image, Mask]:
    """A picture, uint8 [H, W, 3], and the mask of the target's visible part, bool [H, W]."""
    hidden = target.materials[0].palette if rng.random() < 0.4 else None
    canvas = background(rng, size, bank, hidden)
    light = draw_light(rng)
    queue: list[tuple[Thing, bool]] = [(thing, False) for thing in others]
    for _ in range(2 if rng.random() < 0.2 else 1):
        queue.insert(int(rng.integers(0, len(queue) + 1)), (target, True))
    shadow = float(rng.choice([0.0, rng.uniform(0.2, 0.6)]))
    mask = np.zeros(size, np.bool_)
    for thing, wanted in queue:
        low, high = (0.35, 0.95) if wanted else (0.2, 0.7)
        length = rng.uniform(low, high) * min(size)
        cutout = draw_thing(thing, max(length, 12.0), light, rng)
        centre = _place(rng, cutout, mask, wanted)
        if centre is None:
            continue
        covered = paste(canvas, cutout, centre, shadow)
        if covered is not None:
            rows, columns, where = covered
            mask[rows, columns][where] = wanted
    return camera(canvas, rng), mask


def _place(rng: Random, cutout: Cutout, mask: Mask, wanted: bool) -> tuple[float, float] | None:
    """A centre that leaves enough of the target visible; None if four tries find none."""
    low, high = (0.2, 0.8) if wanted else (0.0, 1.0)
    before = int(mask.sum())
    for _ in range(4):
        row, column = rng.uniform(low, high, 2) * mask.shape
        place = window(mask.shape, cutout.alpha.shape, (row, column))
        if place is None:
            continue
        rows, columns, cut = place
        lost = int((mask[rows, columns] & (cutout.alpha[cut] > 0.5)).sum())
        if wanted or lost <= (1 - _VISIBLE) * before:
            return float(row), float(column)
    return None
