"""Endless episodes from any folder of photographs: pieces of them, shown again elsewhere.

A class is one piece of one photograph (a given mask, or superpixels), shown in its own photograph
or pasted into another one; or it is one folder of cut-outs (pictures with a transparent
background), pasted into photographs. Rotation, scale, tilt, light and the pieces around it differ
every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnet_trt.data.drawn.camera import camera
from hsnet_trt.data.drawn.cast import LENGTH, Cast, ground_size
from hsnet_trt.data.drawn.drawn_episode import best_view, drawn_episode
from hsnet_trt.data.drawn.render import Cutout, Floats, paste
from hsnet_trt.data.drawn.segments import PIECES, Photo, load_photo
from hsnet_trt.data.drawn.views import crop, cut_out, in_colours_of, in_place
from hsnet_trt.data.episodes.episode import Episode, Episodes, Image, Mask
from hsnet_trt.data.episodes.files import read_alpha
from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError

LEAVE_OUT = "leave the picture out"  # mends what cannot be drawn
PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_PARTS: tuple[Split, ...] = ("test", "train", "train", "val", "train")
_CUTOUTS = 0.8  # share of the episodes, if there are any cut-outs
_AGAIN = 0.5  # how often a view repeats the first cut-out if its folder has others
_OTHERS, _ALIKE = 4, 2  # things beside the object in a video; of these, in the object's colours

Random = np.random.Generator
Paths = tuple[tuple[Path, Path | None], ...]  # (photograph, its mask)
View = tuple[int, int]  # (index of the photograph, index of the piece)


def photo_cut(
    root: Path,
    *,
    split: Split = "train",
    shots: int = 1,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Episodes:
    """Open a folder of photographs, subfolders included, as an endless stream of episodes.

    Args:
        root: the folder. NAME.png beside NAME.jpg (or .jpeg, .webp, .bmp) is its mask. A picture
            with a transparent background is a cut-out; those of one subfolder are one class, those
            in root itself are one class each.
        split: "train", "val" or "test": three, one and one of five photographs sorted by name, and
            likewise of the classes of cut-outs. Pieces, distractors and backgrounds all come from
            the same split.
        shots: supports per episode.
        size: (height, width) at which episodes are drawn.
        seed: of the stream of episodes.

    Raises:
        InputError: the folder has no photograph for the split; while drawing: one is broken.
    """
    draw = _open(root, split, shots, size, seed)
    names = {place: kind.name for place, kind in enumerate(draw.classes)}
    return Episodes(f"photo-cut {root.name} {split}", names, draw, None)


def photo_cut_casts(
    root: Path,
    *,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
) -> Callable[[int], Cast]:
    """Open the casts of drawn videos, by number: of cut-outs if there are any, else of pieces.

    Arguments and errors are those of `photo_cut`.
    """
    return _open(root, split, shots, size, seed).cast


def _open(root: Path, split: Split, shots: int, size: tuple[int, int], seed: int) -> _Draw:
    if shots < 1:
        raise InputError("an episode needs a support", expected="shots >= 1", found=shots)
    found = find_photos(root)
    cutouts = [pair for pair in found if _is_cutout(*pair)]
    whole = _part([[pair] for pair in found if pair not in cutouts], split)
    if not whole:
        raise InputError(
            f"there are too few photographs in {root} for {split}",
            expected="at least 5 for all parts" if found else "pictures, here or in folders below",
            found=len(found) - len(cutouts),
        )
    kinds: dict[Path, list[tuple[Path, Path | None]]] = {}
    for path, mask in cutouts:
        kinds.setdefault(path if path.parent == root else path.parent, []).append((path, mask))
    photos = [pair for pairs in whole for pair in pairs]
    classes = []
    for place, (path, mask) in enumerate(photos):
        name = path.relative_to(root).as_posix()
        classes += [
            _Class(name if mask else f"{name} {piece}", ((place, piece),))
            for piece in range(1 if mask else PIECES)
        ]
    backgrounds = len(photos)
    for pairs in _part(list(kinds.values()), split):
        places = range(len(photos), len(photos) + len(pairs))
        path = pairs[0][0]
        name = (path if path.parent == root else path.parent).relative_to(root).as_posix()
        classes.append(_Class(name, tuple((place, 0) for place in places)))
        photos += pairs
    return _Draw(tuple(photos), backgrounds, tuple(classes), shots, size, seed)


def find_photos(root: Path) -> Paths:
    """All pictures below a folder as (photograph, mask or None), sorted by path.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}", fix="check the path")
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in PHOTOS and path.name[0] != "."  # such as macOS' ._1.jpg
    )
    others = {path.with_suffix("") for path in files if path.suffix.lower() != ".png"}
    pngs = (path for path in files if path.suffix.lower() == ".png")
    masks = {p.with_suffix(""): p for p in pngs if p.with_suffix("") in others}
    is_mask = set(masks.values())
    return tuple((path, masks.get(path.with_suffix(""))) for path in files if path not in is_mask)


def _is_cutout(path: Path, mask: Path | None) -> bool:
    if mask is not None or path.suffix.lower() not in {".png", ".webp"}:
        return False
    try:
        return read_alpha(path, upright=True) is not None
    except InputError:
        return False  # the error is raised when the picture is drawn


def _part(
    groups: list[list[tuple[Path, Path | None]]], split: Split
) -> list[list[tuple[Path, Path | None]]]:
    return [group for place, group in enumerate(groups) if _PARTS[place % 5] == split]


@dataclass(frozen=True)
class _Class:
    name: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class _Draw:
    photos: Paths
    backgrounds: int  # the first `backgrounds` photos are not cut-outs
    classes: tuple[_Class, ...]
    shots: int
    size: tuple[int, int]
    seed: int

    def __call__(self, index: int) -> Episode:
        rng = np.random.default_rng([self.seed, index, 47])
        class_id = self._class(rng)
        kind = self.classes[class_id]
        first = kind.views[int(rng.integers(len(kind.views)))]
        views = [
            self._view(rng, kind, first if rng.random() < _AGAIN else _any(rng, kind))
            for _ in range(self.shots + 1)
        ]
        name = f"{kind.name} {self.seed}/{index}"
        return drawn_episode(views[0], views[1:], class_id, kind.name, name)

    def cast(self, index: int) -> Cast:
        """Draw the parts of video `index`; each round uses every class once, in another order."""
        pieces = sum(kind.views[0][0] < self.backgrounds for kind in self.classes)
        ids = range(pieces, len(self.classes)) or range(pieces)
        rounds, place = divmod(index, len(ids))
        order = np.random.default_rng([self.seed, rounds, 59]).permutation(len(ids))
        kind = self.classes[ids[int(order[place])]]
        rng = np.random.default_rng([self.seed, index, 61])
        first = _any(rng, kind)
        views = [
            self._view(rng, kind, first if rng.random() < _AGAIN else _any(rng, kind))
            for _ in range(self.shots)
        ]
        apart = range(self.backgrounds, len(self.photos)) or range(self.backgrounds)
        akin = {place for place, _ in kind.views}
        choice = [place for place in apart if place not in akin]
        others = [choice[int(rng.integers(len(choice)))] for _ in range(_OTHERS) if choice]
        grounds = [int(place) for place in rng.integers(0, self.backgrounds, 2)]
        if first[0] < self.backgrounds and self.backgrounds > 1:  # not the object's own photograph
            grounds = [_another(rng, self.backgrounds, first[0]) for _ in range(2)]
        target = self._cut(rng, first)
        cut = [self._cut(rng, (place, 0)) for place in others]
        # Colour alone must not separate the object from all others.
        alike = [in_colours_of(other, target) for other in cut[:_ALIKE]]
        return Cast(
            class_name=kind.name,
            supports=np.stack([image for image, _ in views]),
            support_masks=np.stack([mask for _, mask in views]),
            target=target,
            others=(*alike, *cut[_ALIKE:]),
            ground=crop(rng, self._photo(grounds[0]).image, ground_size(self.size)),
            screen=crop(rng, self._photo(grounds[1]).image, self.size),
        )

    def _cut(self, rng: Random, view: View) -> Cutout:
        photo = self._photo(view[0])
        return cut_out(rng, photo.image, photo.pieces[view[1]], LENGTH * min(self.size))

    def _class(self, rng: Random) -> int:
        """Mostly cut-outs, if there are any, because a superpixel is rarely a real object."""
        pieces = sum(kind.views[0][0] < self.backgrounds for kind in self.classes)
        if pieces < len(self.classes) and rng.random() < _CUTOUTS:
            return int(rng.integers(pieces, len(self.classes)))
        return int(rng.integers(pieces))

    def _photo(self, place: int) -> Photo:
        return load_photo(*self.photos[place])

    def _view(self, rng: Random, kind: _Class, view: View) -> tuple[Image, Mask]:
        photo = self._photo(view[0])

        def draw() -> tuple[Floats, Mask]:
            if photo.cutout or (self.backgrounds > 1 and rng.random() >= 0.35):
                return self._pasted(rng, kind, view)
            canvas, seen = in_place(rng, photo, photo.pieces[view[1]], self.size)
            return self._paste_others(rng, canvas, seen, kind, view)

        canvas, mask = best_view(draw, f"a piece of {self.photos[view[0]][0]}", LEAVE_OUT)
        return camera(canvas, rng), mask

    def _pasted(self, rng: Random, kind: _Class, view: View) -> tuple[Floats, Mask]:
        """The piece pasted into another photograph, among other pieces."""
        if view[0] < self.backgrounds:
            other = _another(rng, self.backgrounds, view[0])
        else:
            other = int(rng.integers(self.backgrounds))
        canvas = crop(rng, self._photo(other).image, self.size)
        mask = np.zeros(self.size, np.bool_)
        canvas, mask = self._paste_others(rng, canvas, mask, kind, view)
        photo = self._photo(view[0])
        length = rng.uniform(0.3, 0.9) * min(self.size)
        cutout = cut_out(rng, photo.image, photo.pieces[view[1]], length)
        centre = tuple(float(v) for v in rng.uniform(0.2, 0.8, 2) * self.size)
        covered = paste(canvas, cutout, (centre[0], centre[1]), 0.0)
        if covered is not None:
            mask[covered[0], covered[1]][covered[2]] = True
        if rng.random() < 0.5:
            canvas, mask = self._paste_others(rng, canvas, mask, kind, view, most=2)
        return canvas, mask

    def _paste_others(
        self, rng: Random, canvas: Floats, mask: Mask, kind: _Class, view: View, most: int = 4
    ) -> tuple[Floats, Mask]:
        """Paste other pieces: of the target's photograph, with its colours, and of others."""
        own = self._photo(view[0])
        akin, near = {place for place, _ in kind.views}, not own.cutout
        for _ in range(int(rng.integers(0, most + 1))):
            place = view[0] if near and rng.random() < 0.4 else int(rng.integers(len(self.photos)))
            photo = self._photo(place)
            piece = photo.pieces[int(rng.integers(len(photo.pieces)))]
            if place in akin and photo.cutout:
                continue  # it would show the target outside the mask
            if place == view[0] and (piece & own.pieces[view[1]]).sum() > 0.05 * piece.sum():
                continue  # likewise
            cutout = cut_out(rng, photo.image, piece, rng.uniform(0.15, 0.6) * min(self.size))
            row, column = rng.uniform(0, 1, 2) * self.size
            trial = canvas.copy()
            covered = paste(trial, cutout, (float(row), float(column)), 0.0)
            if covered is None:
                continue
            left = mask.copy()
            left[covered[0], covered[1]][covered[2]] = False
            if left.sum() >= 0.6 * mask.sum():
                canvas, mask = trial, left
        return canvas, mask


def _any(rng: Random, kind: _Class) -> View:
    return kind.views[int(rng.integers(len(kind.views)))]


def _another(rng: Random, count: int, place: int) -> int:
    return (place + int(rng.integers(1, count))) % count
