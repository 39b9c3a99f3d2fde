"""Whether what is followed is still there: its presence beside the most that it had before."""

from __future__ import annotations

import numpy as np

# Found on drawn videos of the validation classes: see docs/video.md.
FROM = 0.65  # of the most presence so far: the score from which a class counts as present
_HOLD = 0.025  # what is there stays down to so much less, what is not needs so much more
_SURE = 3.5  # logit: what reaches it is there, whatever its presence
_LATEST = 0.5  # weight of the latest score in its average
_FADES = 0.998  # what is left of the most presence after each frame in which it is there
_BELOW = float(np.nextafter(np.float32(FROM), np.float32(0)))


class Here:
    """The state of one class. How much presence a thing has depends on the thing and its support.

    So no threshold for all fits: small or much changed things would be taken for absent for ever.
    It has more in a closer look, which is compared to closer looks only.
    Nor is what lost presence taken for absent while its mask is sure: it may only have turned.
    """

    def __init__(self) -> None:
        self._most = {False: 0.0, True: 0.0}  # of whole frames, of closer looks
        self._mean: float | None = None
        self._is = True

    def add(self, presence: float | None, surest: float, *, closer: bool = False) -> float:
        """The score after a frame, in [0,1]; from FROM on the class counts as present.

        Args:
            presence: of this frame, in [0,1]; None if it is not known.
            surest: the largest logit of what is shown.
            closer: whether only a part of the frame was looked at.
        """
        if presence is not None:
            most = max(self._most[closer] * (_FADES if self._is else 1), presence)
            self._most[closer] = most
            share = presence / most if most > 0 else 1.0
            before = share if self._mean is None else self._mean
            self._mean = before + _LATEST * (share - before)
        score = 1.0 if self._mean is None or surest >= _SURE else self._mean
        self._is = score >= FROM - _HOLD if self._is else score > FROM + _HOLD
        return max(score, FROM) if self._is else min(score, _BELOW)
