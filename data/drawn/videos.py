"""Drawn videos with true masks: an object that moves, turns, is hidden, leaves and comes back.

The object is a flat cut-out or drawn thing of the split's own classes (`photo_cut`, `mixture`,
`procedural`), rotated in space. Other things move around it. The camera pans, rolls, zooms and
shakes; light and colours drift; every frame has new grain. All motion is smooth and follows from a
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnet_trt.data.drawn.cast import Cast
from hsnet_trt.data.drawn.mixture import mixture_casts
from hsnet_trt.data.drawn.photo_cut import photo_cut_casts
from hsnet_trt.data.drawn.procedural import procedural_casts
from hsnet_trt.data.drawn.scene import Scene, VideoFrame
from hsnet_trt.data.drawn.story import direct
from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError

SOURCES = ("mixture", "photo-cut", "procedural")
FEWEST = 48  # frames; a shorter video has no time to leave and return smoothly


@dataclass(frozen=True, eq=False)
class Video:
    """A drawn video. Iterating draws its frames one at a time, always the same ones.

    Attributes:
        name: source, split, seed and number.
        class_name: name of the object's class.
        supports: other pictures of the object, uint8 [K, H, W, 3].
        support_masks: bool [K, H, W].
        frames: number of frames.
    """

    name: str
    class_name: str
    supports: Image
    support_masks: Mask
    frames: int
    _scene: Scene

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._scene.play()


@dataclass(frozen=True)
class Videos:
    """An endless sequence of videos: `videos[i]` is always the same one.

    Attributes:
        name: source and split.
        frames: number of frames of each video.
        size: (height, width).
        seed: another seed gives other videos.
    """

    name: str
    frames: int
    size: tuple[int, int]
    seed: int
    _cast: Callable[[int], Cast]

    def __getitem__(self, index: int) -> Video:
        cast = self._cast(index)
        rng = np.random.default_rng([self.seed, index, 67])
        return Video(
            name=f"{self.name} {self.seed}/{index}",
            class_name=cast.class_name,
            supports=cast.supports,
            support_masks=cast.support_masks,
            frames=self.frames,
            _scene=direct(rng, cast, self.size, self.frames),
        )


def open_videos(
    source: str = "procedural",
    root: Path | None = None,
    *,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (240, 320),
    frames: int = 96,
    seed: int = 0,
) -> Videos:
    """Open drawn videos.

    Args:
        source: "procedural", or "photo-cut" or "mixture" for a folder of pictures.
        root: that folder, see `photo_cut` and `mixture`.
        split: "train", "val" or "test": disjoint classes.
        shots: supports of each video.
        size: (height, width) of frames and supports.
        frames: per video; with more frames everything moves more slowly, as the plot is the same.
        seed: another seed gives other videos.

    Raises:
        InputError: no such source, a folder without pictures for the split, too few frames, or a
            seed below 0.
    """
    if seed < 0:
        raise InputError("the seed makes no sense", expected="0 or more", found=seed)
    if frames < FEWEST:
        raise InputError("the videos are too short", expected=f"{FEWEST} frames", found=frames)
    if source == "procedural":
        cast = procedural_casts(split=split, shots=shots, size=size, seed=seed)
    elif source not in SOURCES:
        raise InputError(f"there are no videos of {source!r}", expected=" or ".join(SOURCES))
    elif root is None:
        raise InputError(f"{source} needs a folder to read from", fix="give it with --root")
    else:
        open_casts = photo_cut_casts if source == "photo-cut" else mixture_casts
        cast = open_casts(root, split=split, shots=shots, size=size, seed=seed)
    return Videos(f"{source} videos {split}", frames, size, seed, cast)
