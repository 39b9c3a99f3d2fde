"""Open episodes by the source's name on the command line, and mix several sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.data.episodes.episode import Episode, Episodes, Skipped
from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError

SOURCES = ("procedural", "photo-cut", "mixture", "pascal", "coco", "fss", "folder")
_FOLDED = ("pascal", "coco")
_APART = 1_000_000  # offset between the class ids of two sources; above any source's ids


@dataclass(frozen=True)
class Source:
    """Where to take episodes from.

    Attributes:
        names: one or more of `SOURCES`; several are used in turn.
        root: the folder of datasets or photographs; procedural needs none.
        fold: of PASCAL-5i and COCO-20i.
        splits: the authors' data/splits; FSS-1000 needs it.
        size: (height, width) of images and masks.
        shots: supports per episode.
        seed: of the random choices.
    """

    names: tuple[str, ...]
    root: Path | None = None
    fold: int = 0
    splits: Path | None = None
    size: tuple[int, int] = (400, 400)
    shots: int = 1
    seed: int = 0

    def open(
        self, split: Split, *, original_size: bool = False, skipped: Skipped | None = None
    ) -> Episodes:
        """Open one split.

        Args:
            split: "train" is endless; "val" and "test" are the published protocols' lists, or
                endless for drawn sources.
            original_size: keep the query's mask at its own size.
            skipped: collects errors of broken files; None raises at the first.

        Raises:
            InputError: no such source, or its files are missing or broken.
        """
        if not self.names:
            raise InputError("no source of episodes is named", expected=", ".join(SOURCES))
        if self.seed < 0:
            raise InputError("the seed makes no sense", expected="0 or more", found=self.seed)
        opened = [self._open(name, split, original_size, skipped) for name in self.names]
        return opened[0] if len(opened) == 1 else mix(opened)

    def _open(
        self, name: str, split: Split, original_size: bool, skipped: Skipped | None
    ) -> Episodes:
        if name not in SOURCES:
            raise InputError(
                f"there is no source of episodes {name!r}", expected=", ".join(SOURCES)
            )
        if name == "procedural":
            from hsnet_trt.data.drawn.procedural import procedural

            return procedural(split=split, shots=self.shots, size=self.size, seed=self.seed)
        if self.root is None:
            raise InputError(f"{name} needs a folder to read from", fix="give it with --root")
        if name == "photo-cut":
            from hsnet_trt.data.drawn.photo_cut import photo_cut

            return photo_cut(
                self.root, split=split, shots=self.shots, size=self.size, seed=self.seed
            )
        if name == "mixture":
            from hsnet_trt.data.drawn.mixture import mixture

            return mixture(self.root, split=split, shots=self.shots, size=self.size, seed=self.seed)
        from hsnet_trt.data.sets.coco import coco
        from hsnet_trt.data.sets.folder import folder
        from hsnet_trt.data.sets.fss import fss
        from hsnet_trt.data.sets.pascal import pascal

        if name in _FOLDED:
            return (pascal if name == "pascal" else coco)(
                self.root,
                fold=self.fold,
                split=split,
                shots=self.shots,
                size=self.size,
                original_size=original_size,
                splits=self.splits,
                seed=self.seed,
                skipped=skipped,
            )
        if name == "folder":
            return folder(
                self.root,
                split=split,
                shots=self.shots,
                size=self.size,
                original_size=original_size,
                seed=self.seed,
                skipped=skipped,
            )
        if self.splits is None:
            raise InputError(
                "FSS-1000 needs its published class lists",
                expected="trn.txt, val.txt and test.txt of the authors' data/splits/fss",
                fix="give their folder with --splits",
            )
        return fss(
            self.root,
            splits=self.splits,
            split=split,
            shots=self.shots,
            size=self.size,
            original_size=original_size,
            seed=self.seed,
            skipped=skipped,
        )


def mix(sources: Sequence[Episodes]) -> Episodes:
    """Take episodes from several sources in turn: 0, 1, ..., 0, 1, ...

    A source that is given twice is used twice as often, with other episodes each time. The mix ends
    with the source that is used up first. Class ids are offset per source; names stay.
    """
    # A source that is given twice keeps one set of class ids.
    numbers = {name: place for place, name in enumerate(dict.fromkeys(s.name for s in sources))}
    classes = {
        numbers[source.name] * _APART + class_id: name
        for source in sources
        for class_id, name in source.classes.items()
    }
    times = {name: sum(source.name == name for source in sources) for name in numbers}
    # A round takes one episode of each source, so several of one that is given more than once.
    rounds = [s.count // times[s.name] for s in sources if s.count is not None]
    count = len(sources) * min(rounds) if rounds else None
    name = " + ".join(f"{n} x {name}" if n > 1 else name for name, n in times.items())
    return Episodes(name, classes, _Turns(tuple(sources), numbers), count)


@dataclass(frozen=True)
class _Turns:
    sources: tuple[Episodes, ...]
    numbers: dict[str, int]

    def __call__(self, index: int) -> Episode:
        rounds, place = divmod(index, len(self.sources))
        source = self.sources[place]
        alike = [i for i, other in enumerate(self.sources) if other.name == source.name]
        episode = source[rounds * len(alike) + alike.index(place)]
        return dataclasses.replace(
            episode, class_id=self.numbers[source.name] * _APART + episode.class_id
        )
