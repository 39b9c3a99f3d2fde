"""The cost of quantisation on episodes: mIoU, changed pixels, the logits' signal-to-noise ratio."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from hsnet_trt.calibration.episodes import Encoded, encode, logits_of, voted
from hsnet_trt.calibration.network import MemoryRunner
from hsnet_trt.calibration.placement import Layer
from hsnet_trt.calibration.quantize import quantize
from hsnet_trt.calibration.subject import Subject
from hsnet_trt.calibration.table import CalibrationTable
from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.data.episodes.metrics import Score

_CACHE = 1 << 30  # bytes of encoded episodes to keep
_LEAST_SQNR = 1e-12  # -120 dB: of logits that are constant in FP32

Step = Callable[[int], None]  # called before each episode with its number


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of quantised graphs compared with FP32, on the same episodes.

    Attributes:
        miou, miou_fp32: in percent.
        changed: share of the judged pixels whose answer changed, in [0,1].
        sqnr: signal to quantisation noise, in decibels, of foreground minus background logit (which
            alone decides): variance of the FP32 value over the mean square error; inf if exact, and
            never below -120.
        episodes: number of episodes.
    """

    miou: float
    miou_fp32: float
    changed: float
    sqnr: float
    episodes: int

    @property
    def points(self) -> float:
        """Points of mIoU lost; negative if mIoU rose."""
        return self.miou_fp32 - self.miou


class Judge:
    """A fixed set of episodes with their FP32 answers, on which quantised graphs are compared."""

    def __init__(
        self,
        subject: Subject,
        table: CalibrationTable,
        episodes: Iterable[Episode],
        classes: dict[int, str],
        step: Step = lambda number: None,
    ) -> None:
        """Answer all episodes in FP32.

        Args:
            subject: the graphs.
            table: the ranges; `table.check(subject)` has passed.
            episodes: of the subject's size, each with an object in every support mask.
            classes: class id -> name.
            step: called before each episode.
        """
        self.subject, self.table = subject, table
        self._policy = subject.bundle.manifest.preprocessing
        self._classes = classes
        packing = subject.files["match"].packing
        self._fp32 = MemoryRunner(subject.graphs, packing=packing)
        self._episodes: list[Episode] = []
        self._cache: dict[int, Encoded] = {}
        self._cached = 0
        self._logits: list[npt.NDArray[np.float32]] = []
        self._answers: list[Mask] = []
        score = Score(classes)
        for number, episode in enumerate(episodes):
            step(number)
            self._episodes.append(episode)
            self._logits.append(logits_of(self._fp32, self._encoded(number)))
            self._answers.append(voted(self._logits[-1], episode, subject.size))
            score.add(episode, self._answers[-1])
        self.miou_fp32 = score.miou()

    def __len__(self) -> int:
        return len(self._episodes)

    def cost(self, layers: Sequence[Layer]) -> Cost:
        """The cost if `layers` are INT8 and all others FP32."""
        graphs = {
            name: quantize(
                self.subject.graphs[name],
                [layer for layer in layers if layer.graph == name],
                self.table.thresholds(name),
                self.table.unsigned(name) if self.subject.for_cpu else None,
            )
            for name in {layer.graph for layer in layers}
        }
        return self.measure(graphs)

    def measure(
        self, graphs: Mapping[str, onnx.ModelProto], step: Step = lambda number: None
    ) -> Cost:
        """The cost if these graphs replace the FP32 graphs of the same names."""
        runner = self._fp32.having(graphs)
        score, signal, noise, changed, judged = Score(self._classes), 0.0, 0.0, 0, 0
        for number, episode in enumerate(self._episodes):
            step(number)
            if graphs.keys() & {"features", "support"}:
                encoded = encode(runner, episode, self.subject.size, self._policy)
            else:
                encoded = self._encoded(number)
            logits = logits_of(runner, encoded)
            answer = voted(logits, episode, self.subject.size)
            score.add(episode, answer)
            right, found = (_decisive(x) for x in (self._logits[number], logits))
            signal += float(right.var())
            noise += float(np.mean((found - right) ** 2))
            counts = np.ones_like(answer) if episode.ignore is None else ~episode.ignore
            changed += int(((answer != self._answers[number]) & counts).sum())
            judged += int(counts.sum())
        runner.close()
        return Cost(
            miou=score.miou(),
            miou_fp32=self.miou_fp32,
            changed=changed / max(judged, 1),
            sqnr=_decibels(signal, noise),
            episodes=len(self._episodes),
        )

    def _encoded(self, number: int) -> Encoded:
        if number in self._cache:
            return self._cache[number]
        encoded = encode(self._fp32, self._episodes[number], self.subject.size, self._policy)
        size = sum(a.nbytes for part in (encoded.query, encoded.supports) for a in part.values())
        if self._cached + size <= _CACHE:
            self._cache[number] = encoded
            self._cached += size
        return encoded


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(max(signal / noise, _LEAST_SQNR)) if noise > 0 else math.inf


def _decisive(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return logits[:, 1].astype(np.float64) - logits[:, 0]
