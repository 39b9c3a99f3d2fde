"""An episode (a query, its supports, their masks), and an indexed sequence of episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import InputError

Image = npt.NDArray[np.uint8]  # [H, W, 3], RGB, 0..255
Mask = npt.NDArray[np.bool_]  # [H, W], True on the object


@dataclass(frozen=True)
class Episode:
    """One few-shot task: find in the query what the masks mark in the K supports.

    Attributes:
        query: uint8 [H, W, 3], RGB, at the network's size.
        query_mask: bool [H, W]; at the original size if that is judged.
        supports: uint8 [K, H, W, 3], RGB.
        support_masks: bool [K, H, W].
        class_id: from 0, in the dataset's order.
        class_name: readable name of the class.
        ignore: bool, shaped as query_mask: pixels that are not judged; None if all are.
        query_name: the query's name in the dataset.
        support_names: the same for each support; the authors' sampling may repeat one.
        original_size: (height, width) of the query before resizing.
    """

    query: Image
    query_mask: Mask
    supports: Image
    support_masks: Mask
    class_id: int
    class_name: str
    ignore: Mask | None
    query_name: str
    support_names: tuple[str, ...]
    original_size: tuple[int, int]

    @property
    def shots(self) -> int:
        """The number of supports."""
        return len(self.supports)


@dataclass
class Skipped:
    """Broken files and classes that were skipped: len() counts them, `files` lists them."""

    errors: list[InputError] = field(default_factory=list)

    def add(self, error: InputError) -> None:
        """Record an error; equal ones are recorded once."""
        if error.summary not in {known.summary for known in self.errors}:
            self.errors.append(error)

    @property
    def files(self) -> list[str]:
        """One line per error; each names its file or class."""
        return [error.summary for error in self.errors]

    def __len__(self) -> int:
        return len(self.errors)


@dataclass(frozen=True)
class Episodes:
    """Episodes by number: `episodes[i]` is always the same one, whatever was read before.

    They can be shuffled, resumed and read by several worker processes without shared state; a torch
    DataLoader accepts one as a map-style dataset.

    Attributes:
        name: the dataset and its split, for reports.
        classes: class id -> name of every class that is judged.
        make: number -> Episode. Raises InputError naming a broken file.
        count: number of episodes; None if endless.
    """

    name: str
    classes: Mapping[int, str]
    make: Callable[[int], Episode]
    count: int | None

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError(f"{self.name} never ends: use take(n)")
        return self.count

    def __getitem__(self, index: int) -> Episode:
        if index < 0 or (self.count is not None and index >= self.count):
            raise IndexError(f"episode {index} of {self.count}")
        return self.make(index)

    def __iter__(self) -> Iterator[Episode]:
        return self.take()

    def take(
        self, n: int | None = None, *, start: int = 0, skipped: Skipped | None = None
    ) -> Iterator[Episode]:
        """Yield at most n episodes from `start` on; all if n is None.

        With `skipped`, an episode with broken files is left out and recorded there; otherwise its
        InputError is raised. An episode that was left out counts towards n.
        """
        stop = self.count
        if n is not None:
            stop = start + n if stop is None else min(stop, start + n)
        index = start
        while stop is None or index < stop:
            try:
                episode = self[index]
            except InputError as error:
                if skipped is None:
                    raise
                skipped.add(error)
            else:
                yield episode
            index += 1
