"""Where episodes come from, as several verbs ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsnet_trt.errors import InputError

if TYPE_CHECKING:
    from hsnet_trt.data.sources import Source

DATA_HELP = (
    "procedural, photo-cut, mixture, pascal, coco, fss or folder (folder:PATH is folder with "
    "--root PATH); repeat to mix: episodes then come from each in turn."
)
RootOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the dataset; of photographs, with --data folder: CLASS/NAME.jpg and its "
        "mask CLASS/NAME.png."
    ),
]
FoldOption = Annotated[int, typer.Option(help="Fold of pascal and coco, 0 to 3.")]
SplitsOption = Annotated[
    Path | None,
    typer.Option(
        help="The authors' data/splits: the published lists of pascal, coco and fss. Without them "
        "pascal and coco take other episodes than the published figures are of."
    ),
]


@dataclass(frozen=True)
class EpisodeOptions:
    """What is beside `--data`: a group of options, see `groups.flatten`."""

    root: RootOption = None
    fold: FoldOption = 0
    splits: SplitsOption = None
    shots: Annotated[int, typer.Option(help="Supports per episode.")] = 1
    seed: Annotated[int, typer.Option(help="Seed of drawn episodes.")] = 0

    def source(self, data: list[str]) -> Source:
        """The episodes of `--data`.

        Raises:
            InputError: the data is in two folders, or is not what it should be.
        """
        from hsnet_trt.data.sources import Source

        names, root = split_places(data, self.root)
        return Source(
            names, root=root, fold=self.fold, splits=self.splits, shots=self.shots, seed=self.seed
        )


def split_places(data: list[str], root: Path | None) -> tuple[tuple[str, ...], Path | None]:
    """The names in `--data`, and the folder that one of them or `--root` gives.

    Raises:
        InputError: two folders are given.
    """
    names = []
    for text in data:
        name, _, place = text.partition(":")
        names.append(name)
        if place:
            if root is not None and root != Path(place):
                raise InputError(
                    "two folders of episodes are given", expected="one", found=f"{root} and {place}"
                )
            root = Path(place)
    return tuple(names), root
