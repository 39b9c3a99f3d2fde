"""Endless training episodes: things in their own photographs, cut out of them, and drawn.

A class is a photograph with a mask, or the cut-outs of one folder: photographed things, or drawings
of one thing in several styles. In a share of the episodes the query does not show the class, and
its true mask is empty.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnet_trt.data.drawn.camera import camera
from hsnet_trt.data.drawn.cast import LENGTH, Cast, ground_size
from hsnet_trt.data.drawn.drawn_episode import best_view, drawn_episode
from hsnet_trt.data.drawn.photo_cut import LEAVE_OUT, Paths, find_photos
from hsnet_trt.data.drawn.procedural import procedural
from hsnet_trt.data.drawn.render import Cutout, Floats, paste
from hsnet_trt.data.drawn.segments import load_ground, load_photo
from hsnet_trt.data.drawn.views import crop, cut_out, in_colours_of, in_place
from hsnet_trt.data.episodes.episode import Episode, Episodes, Image, Mask
from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError

MASKED, CUTOUTS, DRAWINGS = "photographs", "cutouts", "drawings"  # folders of the root
# Shares of the episodes. In another tenth the query lacks the class; a tenth is drawn procedurally.
SHARES = {MASKED: 0.30, CUTOUTS: 0.25, DRAWINGS: 0.25}
ABSENT, PROCEDURAL = 0.10, 0.10
_PARTS: dict[int, Split] = {3: "test", 7: "val"}  # among ten classes sorted by name
_PROCEDURAL_IDS = 1_000_000  # offset of procedural class ids, above all others
_DISTRACTORS = 3  # most other things in a picture; half of the pictures have none
_VISIBLE = 0.6  # least share of the object that distractors leave visible
_GROUNDS = 3  # least number of photographs, so that one shows neither class
_OTHERS, _ALIKE = 4, 2  # things beside the object in a video; of these, in the object's colours

Random = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A class: its name, its group, and the indices of its pictures."""

    name: str
    group: str
    places: tuple[int, ...]


def mixture(
    root: Path,
    *,
    split: Split = "train",
    shots: int = 1,
    size: tuple[int, int] = (400, 400),
    seed: int = 0,
) -> Episodes:
    """Open the mixture.

    Args:
        root: ROOT/photographs holds photographs. Each one with a mask (NAME.png beside NAME.jpg,
            .jpeg, .webp or .bmp) is a class; all serve as backgrounds. ROOT/cutouts/CLASS and
            ROOT/drawings/CLASS hold pictures with a transparent background.
        split: of ten classes of a group, sorted by name, one is "test", one "val", the others
            "train". Backgrounds are shared.
        shots: supports per episode.
        size: (height, width) at which episodes are drawn.
        seed: of the stream of episodes.

    Raises:
        InputError: a part of the folder is empty or too small; while drawing: a picture is broken.
    """
    draw = _open(root, split, shots, size, seed)
    names = {number: f"{kind.group}/{kind.name}" for number, kind in enumerate(draw.kinds)}
    names |= {_PROCEDURAL_IDS + number: name for number, name in draw.drawn.classes.items()}
    return Episodes(f"mixture {root.name} {split}", names, draw, None)


def mixture_casts(
    root: Path,
    *,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
) -> Callable[[int], Cast]:
    """Open the casts of drawn videos, by number: of photographed things, cut out.

    Arguments and errors are those of `mixture`.
    """
    return _open(root, split, shots, size, seed).cast


def _open(root: Path, split: Split, shots: int, size: tuple[int, int], seed: int) -> _Draw:
    if shots < 1:
        raise InputError("an episode needs a support", expected="shots >= 1", found=shots)
    photos: Paths = ()
    kinds: list[Kind] = []
    named: dict[str, tuple[int, ...]]
    grounds: tuple[str, ...] = ()
    for group in SHARES:
        folder = root / group
        found = find_photos(folder)
        if group == MASKED:
            grounds = tuple(p.relative_to(folder).with_suffix("").as_posix() for p, _ in found)
            if len(set(grounds)) < _GROUNDS:
                raise InputError(
                    f"there are too few photographs in {folder}",
                    expected=f"at least {_GROUNDS}, of different names",
                    found=len(set(grounds)),
                )
            # Each is two classes: in place, and cut out.
            named = {grounds[n]: (n,) for n, (_, mask) in enumerate(found) if mask is not None}
            kinds += [Kind(name, MASKED, places) for name, places in _part(named, split)]
            kinds += [Kind(name, CUTOUTS, places) for name, places in _part(named, split)]
        else:
            named = {}
            for place, (path, _) in enumerate(found, start=len(photos)):
                name = path.relative_to(folder).parts[0]
                named[name] = (*named.get(name, ()), place)
            kinds += [Kind(name, group, places) for name, places in _part(named, split)]
        if not any(kind.group == group for kind in kinds):
            raise InputError(
                f"there is nothing to learn from in {folder} for {split}",
                expected="photographs with masks" if group == MASKED else "CLASS/*.png or .webp",
            )
        photos += found
    if len({kind.name for kind in kinds}) < 2:
        raise InputError(
            f"{root} has only one class for {split}",
            expected="two names at least, so that a query can lack the class",
            found=kinds[0].name,
        )
    drawn = procedural(split=split, shots=shots, size=size, seed=seed)
    return _Draw(photos, grounds, tuple(kinds), drawn, shots, size, seed)


def _part(named: dict[str, tuple[int, ...]], split: Split) -> list[tuple[str, tuple[int, ...]]]:
    ordered = sorted(named.items())
    return [kind for n, kind in enumerate(ordered) if _PARTS.get(n % 10, "train") == split]


@dataclass(frozen=True)
class _Draw:
    photos: Paths
    grounds: tuple[str, ...]  # names of the first photos, which can be backgrounds
    kinds: tuple[Kind, ...]
    drawn: Episodes
    shots: int
    size: tuple[int, int]
    seed: int

    def __call__(self, index: int) -> Episode:
        rng = np.random.default_rng([self.seed, index, 71])
        chance = rng.random()
        if chance < PROCEDURAL:
            return self._procedural(index)
        absent = chance < PROCEDURAL + ABSENT
        number = self._kind(rng)
        kind = self.kinds[number]
        query, query_mask = self._view(rng, self._another(rng, kind) if absent else kind, kind)
        views = [self._view(rng, kind, kind) for _ in range(self.shots)]
        if absent:
            query_mask = np.zeros_like(query_mask)
        class_name = f"{kind.group}/{kind.name}"
        name = f"{class_name} {self.seed}/{index}"
        return drawn_episode((query, query_mask), views, number, class_name, name)

    def cast(self, index: int) -> Cast:
        """Draw the parts of video `index`; each round uses every class once, in another order."""
        kinds = [self.kinds[number] for number in self._groups[list(SHARES).index(CUTOUTS)]]
        rounds, place = divmod(index, len(kinds))
        order = np.random.default_rng([self.seed, rounds, 73]).permutation(len(kinds))
        kind = kinds[int(order[place])]
        rng = np.random.default_rng([self.seed, index, 79])
        views = [self._view(rng, kind, kind) for _ in range(self.shots)]
        target = self._cut(rng, kind)
        among = [other for other in kinds if other.name != kind.name]
        others = [
            self._cut(rng, among[int(rng.integers(len(among)))]) for _ in range(_OTHERS) if among
        ]
        # Colour alone must not separate the object from all others.
        alike = [in_colours_of(other, target) for other in others[:_ALIKE]]
        return Cast(
            class_name=f"{kind.group}/{kind.name}",
            supports=np.stack([image for image, _ in views]),
            support_masks=np.stack([mask for _, mask in views]),
            target=target,
            others=(*alike, *others[_ALIKE:]),
            ground=crop(rng, self._ground(rng, kind, kind), ground_size(self.size)),
            screen=crop(rng, self._ground(rng, kind, kind), self.size),
        )

    def _cut(self, rng: Random, kind: Kind) -> Cutout:
        photo = load_photo(*self.photos[kind.places[int(rng.integers(len(kind.places)))]])
        return cut_out(rng, photo.image, photo.pieces[0], LENGTH * min(self.size))

    def _procedural(self, index: int) -> Episode:
        episode = self.drawn[index]
        return dataclasses.replace(episode, class_id=_PROCEDURAL_IDS + episode.class_id)

    def _kind(self, rng: Random) -> int:
        chances = np.cumsum(list(SHARES.values()))
        group = int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))
        among = self._groups[group]
        return among[int(rng.integers(len(among)))]

    @functools.cached_property
    def _groups(self) -> list[list[int]]:
        """The numbers of the classes of each group."""
        return [
            [number for number, kind in enumerate(self.kinds) if kind.group == group]
            for group in SHARES
        ]

    def _another(self, rng: Random, kind: Kind) -> Kind:
        """A class with another name: a drawn dog and a photographed dog may be the same thing."""
        while True:
            other = self.kinds[self._kind(rng)]
            if other.name != kind.name:
                return other

    def _view(self, rng: Random, kind: Kind, target: Kind) -> tuple[Image, Mask]:
        """A picture of `kind` and its mask; nothing else in it belongs to `target`."""

        def draw() -> tuple[Floats, Mask]:
            place = kind.places[int(rng.integers(len(kind.places)))]
            photo = load_photo(*self.photos[place])
            if kind.group == MASKED:
                canvas, seen = in_place(rng, photo, photo.pieces[0], self.size)
            else:
                canvas, seen = self._pasted(rng, kind, target, place)
            if rng.random() < 0.5:
                canvas, seen = self._distract(rng, canvas, seen, kind, target, place)
            return canvas, seen

        canvas, mask = best_view(draw, str(self.photos[kind.places[0]][0]), LEAVE_OUT)
        return camera(canvas, rng), mask

    def _pasted(self, rng: Random, kind: Kind, target: Kind, place: int) -> tuple[Floats, Mask]:
        """A cut-out pasted into a photograph that shows neither class."""
        canvas = crop(rng, self._ground(rng, kind, target), self.size)
        photo = load_photo(*self.photos[place])
        cutout = cut_out(rng, photo.image, photo.pieces[0], rng.uniform(0.3, 0.9) * min(self.size))
        row, column = rng.uniform(0.2, 0.8, 2) * self.size
        mask = np.zeros(self.size, np.bool_)
        covered = paste(canvas, cutout, (float(row), float(column)), 0.0)
        if covered is not None:
            mask[covered[0], covered[1]][covered[2]] = True
        return canvas, mask

    def _ground(self, rng: Random, kind: Kind, target: Kind) -> Image:
        """A photograph that shows neither class."""
        ground = int(rng.integers(len(self.grounds)))
        while self.grounds[ground] in {kind.name, target.name}:
            ground = int(rng.integers(len(self.grounds)))
        return load_ground(self.photos[ground][0])

    def _distract(
        self, rng: Random, canvas: Floats, mask: Mask, kind: Kind, target: Kind, place: int
    ) -> tuple[Floats, Mask]:
        """Paste up to three other things, the first one in the object's colours."""
        own = load_photo(*self.photos[place])
        for number in range(int(rng.integers(1, _DISTRACTORS + 1))):
            other = self.kinds[self._kind(rng)]
            if other.name in {kind.name, target.name}:
                continue
            photo = load_photo(*self.photos[other.places[int(rng.integers(len(other.places)))]])
            length = rng.uniform(0.2, 0.7) * min(self.size)
            cutout = cut_out(rng, photo.image, photo.pieces[0], length)
            if number == 0:
                cutout = in_colours_of(cutout, cut_out(rng, own.image, own.pieces[0], 64))
            row, column = rng.uniform(0, 1, 2) * self.size
            trial = canvas.copy()
            covered = paste(trial, cutout, (float(row), float(column)), 0.0)
            if covered is None:
                continue
            left = mask.copy()
            left[covered[0], covered[1]][covered[2]] = False
            if left.sum() >= _VISIBLE * mask.sum():
                canvas, mask = trial, left
        return canvas, mask
