"""A segmenter's current supports, and the calls that are running with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.runtime.matching.support_set import MOST_CLASSES, SupportSet
from hsnet_trt.runtime.pipeline import ArrangedSupports


class CurrentSupports:
    """A support set that threads may change while others segment with it.

    A call works on a snapshot. Closing waits for running calls.
    """

    def __init__(self, arrange: Callable[[SupportSet], ArrangedSupports]) -> None:
        """Start without classes; `arrange` prepares a set for matching."""
        self._arrange = arrange
        self._supports = SupportSet()
        self._arranged: ArrangedSupports | None = None
        self._idle = threading.Condition()  # guards all attributes
        self._active = 0
        self.closed = False

    @contextmanager
    def use(self, call: str) -> Iterator[None]:
        """Count a call as running, for the length of the block.

        Raises:
            BackendError: the segmenter is closed; the message names `call`.
        """
        with self._idle:
            if self.closed:
                raise BackendError(
                    f"{call} was called on a segmenter that is closed",
                    fix="open the bundle again: FewShotSegmenter.load(path)",
                )
            self._active += 1
        try:
            yield
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    @property
    def supports(self) -> SupportSet:
        """The classes and their encoded shots."""
        with self._idle:
            return self._supports

    def change(self, changed: Callable[[SupportSet], SupportSet]) -> None:
        """Replace the set with `changed(set)`; an exception leaves it as it was.

        Raises:
            InputError: there are more than 255 classes.
        """
        with self._idle:
            supports = changed(self._supports)
            if len(supports.classes) > MOST_CLASSES:
                raise InputError(
                    "there are too many classes",
                    expected=f"{MOST_CLASSES} at most",
                    found=len(supports.classes),
                )
            self._supports, self._arranged = supports, None

    def snapshot(self, call: str) -> ArrangedSupports:
        """The set, arranged for matching; arranged again only after a change.

        Raises:
            InputError: no support was set; the message names `call`.
        """
        with self._idle:
            if not self._supports.classes:
                raise InputError(
                    f"{call} was called before a support was set",
                    expected="at least one class with a support image and its mask",
                    fix="call set_support(name, images, masks) or load_supports(path) first",
                )
            if self._arranged is None:
                self._arranged = self._arrange(self._supports)
            return self._arranged

    def refuse_calls(self) -> None:
        """Refuse all further calls."""
        with self._idle:
            self.closed = True

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Wait for running calls, drop the set, and hold the lock for the length of the block."""
        with self._idle:
            self._idle.wait_for(lambda: self._active == 0)
            self._supports, self._arranged = SupportSet(), None
            yield
