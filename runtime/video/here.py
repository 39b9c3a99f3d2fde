"""Whether a followed class is still present: its presence score relative to its own maximum."""

from __future__ import annotations

import numpy as np

# Chosen on drawn videos of the validation classes: see docs/video.md.
FROM = 0.65  # threshold on presence / running maximum, from which a class counts as present
_HOLD = 0.025  # hysteresis: a present class stays down to FROM - 0.025, an absent needs + 0.025
_SURE = 3.5  # a class whose highest logit reaches this is present, whatever its score
_LATEST = 0.5  # weight of the latest ratio in the running average
_FADES = 0.998  # decay of the running maximum per scored frame in which the class is present
_BELOW = float(np.nextafter(np.float32(FROM), np.float32(0)))


class Here:
    """The state of one class.

    Presence scores depend on the object and its support, so one absolute threshold would call small
    or much changed objects absent for ever; scores are divided by the class's running maximum.
    Scores are higher in closer looks, which have a maximum of their own. While the mask is
    confident the class stays present whatever its score: the object may only have turned.
    """

    def __init__(self) -> None:
        self._most = {False: 0.0, True: 0.0}  # running maximum, by `closer`
        self._mean: float | None = None
        self._is = True

    def add(self, presence: float | None, surest: float, *, closer: bool = False) -> float:
        """The score after a frame, in [0,1]; the class is present where it is FROM or more.

        Args:
            presence: score of this frame, in [0,1]; None if it is not known.
            surest: the largest logit of the plane that is shown.
            closer: whether only a window of the frame was matched.
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
