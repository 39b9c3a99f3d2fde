"""Evaluate ways to follow an object, frame by frame, on the same drawn videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hsnet_trt.benchmarks.accuracy.accuracy import OnEpisode
from hsnet_trt.data.drawn.scene import VideoFrame
from hsnet_trt.data.drawn.videos import Video, Videos
from hsnet_trt.data.episodes.episode import Episode, Image, Mask
from hsnet_trt.data.episodes.trivial import all_foreground, colour_histogram
from hsnet_trt.data.episodes.video_metrics import VideoFigures, VideoScore, summarise
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.runtime.video.closer import CROP
from hsnet_trt.runtime.video.memory import Memory

STEADY = "steady"  # the way whose answers are drawn


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one frame.

    Attributes:
        mask: where the object is, bool [H, W].
        present: whether the object is there; None if the way does not say.
    """

    mask: Mask
    present: bool | None = None


# (a video, of which only the supports may be used; its pictures, uint8 [H, W, 3]) -> an answer to
# each picture, in order.
Follow = Callable[[Video, Iterable[Image]], Iterator[Answer]]


@dataclass(frozen=True)
class FollowRow:
    """The result of one way to follow an object.

    Attributes:
        name: of the way.
        figures: over all videos.
        scores: of each video, in order.
    """

    name: str
    figures: VideoFigures
    scores: tuple[VideoScore, ...]


@dataclass(frozen=True)
class VideoJudgement:
    """The result of an evaluation on videos.

    Attributes:
        data: name of the videos.
        videos: (name, class) of each.
        frames: per video.
        size: (height, width) of the frames.
        shots: supports per video.
        seed: of the videos.
        rows: one for each way, in the given order.
    """

    data: str
    videos: tuple[tuple[str, str], ...]
    frames: int
    size: tuple[int, int]
    shots: int
    seed: int
    rows: tuple[FollowRow, ...]

    def median(self, way: FollowRow) -> int:
        """The number of the video with the median J of a way."""
        js = [score.j / max(score.there, 1) for score in way.scores]
        return int(np.argsort(js, kind="stable")[len(js) // 2])


def evaluate_videos(
    ways: dict[str, Follow],
    videos: Videos,
    count: int,
    *,
    on_video: OnEpisode = lambda what, done, total: None,
) -> VideoJudgement:
    """Evaluate ways to follow an object on the same videos.

    Args:
        ways: name -> way.
        videos: an endless sequence of videos.
        count: how many of the first ones.
        on_video: called before each video.

    Raises:
        InputError: there is nothing to judge, or a way gave fewer answers than there are frames.
        HSNetError: whatever a way raises.
    """
    if count < 1 or not ways:
        raise InputError("there is nothing to judge", expected="a video, and a way to follow")
    scores: dict[str, list[VideoScore]] = {name: [] for name in ways}
    names = []
    shots = 0
    for number in range(count):
        on_video(videos.name, number, count)
        video = videos[number]
        names.append((video.name, video.class_name))
        shots = len(video.supports)
        for name, follow in ways.items():
            scores[name].append(judge_video(follow, video))
    on_video(videos.name, count, count)
    return VideoJudgement(
        data=videos.name,
        videos=tuple(names),
        frames=videos.frames,
        size=videos.size,
        shots=shots,
        seed=videos.seed,
        rows=tuple(FollowRow(name, summarise(s), tuple(s)) for name, s in scores.items()),
    )


def judge_video(follow: Follow, video: Video) -> VideoScore:
    """Judge one way on one video. A frame is kept only until it is answered."""
    score = VideoScore()
    for frame, answer in answered(follow, video):
        score.add(answer.mask, frame.truth, frame.origin, present=answer.present)
    score.finish()
    return score


def answered(follow: Follow, video: Video) -> Iterator[tuple[VideoFrame, Answer]]:
    """Each frame with its answer. Raises InputError if there are fewer answers than frames."""
    waiting: list[VideoFrame] = []  # because a way may read ahead

    def pictures() -> Iterator[Image]:
        for frame in video:
            waiting.append(frame)
            yield frame.image

    done = 0
    for answer in follow(video, pictures()):
        yield waiting.pop(0), answer
        done += 1
    if done != len(video):
        raise InputError(
            "a video was not answered to its end", expected=f"{len(video)} answers", found=done
        )


class Streamed:
    """Follow an object with `segmenter.stream`; by default each frame on its own."""

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        *,
        memory: int = 0,
        steady: bool = False,
        only_present: bool = False,
        crop: float | None = None,
    ) -> None:
        """Follow with a segmenter.

        Args:
            segmenter: its supports are replaced by those of each video.
            memory: number of remembered frames; 0 for none.
            steady: whether scores are averaged over time.
            only_present: whether masks of a class that does not count as present are emptied.
            crop: margin with which supports are cropped around their objects; None: not cropped.
        """
        self._only_present, self._crop = only_present, crop
        self._segmenter, self._memory, self._steady = segmenter, memory, steady
        self._spent: list[float] = []

    @property
    def milliseconds(self) -> float:
        """Median time of a frame so far, without drawing and reading it."""
        return float(np.median(self._spent))

    def __call__(self, video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
        """See `Follow`."""
        segmenter = self._segmenter
        segmenter.clear()
        images, masks = list(video.supports), list(video.support_masks)
        segmenter.set_support("object", images, masks, crop=self._crop)
        memory = Memory(self._memory) if self._memory else None
        with segmenter.stream(pictures, memory=memory, steady=self._steady) as stream:
            for frame in stream:
                if frame.result is None:
                    assert frame.error is not None, "a frame without a result has an error"
                    raise frame.error
                self._spent.append(sum(frame.result.timing.values()))
                shown = frame.result.only_present() if self._only_present else frame.result
                yield Answer(shown.masks["object"], shown.present["object"])


def streamed_ways(segmenter: FewShotSegmenter, memories: Sequence[int]) -> dict[str, Streamed]:
    """Frame by frame, and steady; if `memories` is not empty, more ways, and each memory size."""
    ways = {
        "frame by frame": Streamed(segmenter),
        STEADY: Streamed(segmenter, steady=True, crop=CROP),
    }
    if memories:
        ways["only present"] = Streamed(segmenter, only_present=True)
        ways["cropped support"] = Streamed(segmenter, crop=CROP)
        ways["steady, only present"] = Streamed(
            segmenter, steady=True, crop=CROP, only_present=True
        )
    for size in memories:
        ways[f"memory {size}"] = Streamed(segmenter, memory=size, crop=CROP)
        ways[f"memory {size}, steady"] = Streamed(segmenter, memory=size, steady=True, crop=CROP)
    return ways


def by_episode(answer: Callable[[Episode], Mask]) -> Follow:
    """Treat every frame as the query of an episode; trivial answers follow like this."""

    def follow(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
        for number, picture in enumerate(pictures):
            size = (picture.shape[0], picture.shape[1])
            episode = Episode(
                query=picture,
                query_mask=np.zeros(size, np.bool_),
                supports=video.supports,
                support_masks=video.support_masks,
                class_id=0,
                class_name=video.class_name,
                ignore=None,
                query_name=f"{video.name}/{number}",
                support_names=tuple(f"support{k}" for k in range(len(video.supports))),
                original_size=size,
            )
            yield Answer(answer(episode))

    return follow


TRIVIAL: dict[str, Follow] = {
    "all foreground": by_episode(all_foreground),
    "colour histogram": by_episode(colour_histogram),
}
