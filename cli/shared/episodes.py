"""What the verbs that need episodes ask for alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsnet_trt.data.sources import Source


def source_of(
    data: list[str] | None, root: Path | None, fold: int, splits: Path | None, shots: int, seed: int
) -> Source | None:
    """The source of episodes of `--data`; None where it was not given.

    `folder:pictures` is the same as `folder` with `--root pictures`.
    """
    from hsnet_trt.data.sources import Source
    from hsnet_trt.errors import InputError

    if not data:
        return None
    names = []
    for text in data:
        name, _, place = text.partition(":")
        names.append(name)
        if place:
            if root is not None and root != Path(place):
                raise InputError(
                    "the episodes are said to lie in two places",
                    expected="one folder",
                    found=f"{root} and {place}",
                )
            root = Path(place)
    return Source(tuple(names), root=root, fold=fold, splits=splits, shots=shots, seed=seed)
