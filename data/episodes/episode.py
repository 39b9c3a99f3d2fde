"""An episode (a query, its supports, their masks), and a numbered sequence of episodes."""

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
        query: uint8 [H, W, 3], RGB, resized for the network.
        query_mask: bool [H, W]; [original H, original W] where the original size is judged.
        supports: uint8 [K, H, W, 3], RGB.
        support_masks: bool [K, H, W].
        class_id: the class, counted from 0 as the dataset counts.
        class_name: what people call it.
        ignore: bool, shaped as query_mask: pixels that are not judged; None where all are.
        query_name: where the query comes from, as the dataset names it.
        support_names: the same for each support; the authors' sampling may repeat one.
        original_size: (height, width) of the query before it was resized.
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
        """How many supports there are."""
        return len(self.supports)


@dataclass
class Skipped:
    """Broken files and classes that were left out: len() counts them, `files` lists them."""

    errors: list[InputError] = field(default_factory=list)

    def add(self, error: InputError) -> None:
        """Note one broken thing; the same one is noted once."""
        if error.summary not in {known.summary for known in self.errors}:
            self.errors.append(error)

    @property
    def files(self) -> list[str]:
        """One line per broken thing; each names its file."""
        return [error.summary for error in self.errors]

    def __len__(self) -> int:
        return len(self.errors)


@dataclass(frozen=True)
class Episodes:
    """Episodes by number: `episodes[i]` is always the same one, whatever was read before.

    They can therefore be shuffled, resumed and read by several worker processes without any shared
    state; a torch DataLoader takes one as a map-style dataset.

    Attributes:
        name: the dataset and its part, for reports.
        classes: class id -> class name, of every class that is judged here.
        make: number -> Episode. Raises InputError, naming the file, where one is broken.
        count: how many there are; None where they never end.
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
        """Yield episodes start, start + 1, ..., at most n of them, to the end where n is None.

        With `skipped`, an episode whose files are broken is left out and noted there; without,
        its InputError is raised. An episode that was left out counts among the n.
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
