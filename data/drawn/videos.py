"""Drawn videos with truth: an object that moves, turns, is hidden, leaves and comes back.

It is a cut-out or a drawn thing of the part's own classes (`photo_cut`, `procedural`), flat, turned
in space. Others move about it; the camera pans, rolls, zooms and shakes, its light and colours
drift, its grain is new in each frame. Everything is smooth in time and follows from a seed.
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
FEWEST = 48  # frames: in less time, nothing could leave and come back smoothly


@dataclass(frozen=True, eq=False)
class Video:
    """A drawn video. Iterating draws its frames, one at a time, the same ones every time.

    Attributes:
        name: source, part, seed and number.
        class_name: what the object is called.
        supports: the object elsewhere, uint8 [K, H, W, 3].
        support_masks: bool [K, H, W].
        frames: how many.
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
    """Videos without end, by number: `videos[i]` is always the same one.

    Attributes:
        name: source and part.
        frames: of each.
        size: (height, width).
        seed: another one is other videos.
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
        size: (height, width) of the frames and the supports.
        frames: of each video; each shows the whole story, so more frames are slower motion.
        seed: another one is other videos.

    Raises:
        InputError: no such source, a folder without pictures for the split, or too few frames.
    """
    if frames < FEWEST:
        raise InputError("The videos are too short", expected=f"{FEWEST} frames", found=frames)
    if source == "procedural":
        cast = procedural_casts(split=split, shots=shots, size=size, seed=seed)
    elif source not in SOURCES:
        raise InputError(f"There are no videos of {source!r}", expected=" or ".join(SOURCES))
    elif root is None:
        raise InputError(f"{source} needs a folder to read from", fix="give it with --root")
    else:
        open_casts = photo_cut_casts if source == "photo-cut" else mixture_casts
        cast = open_casts(root, split=split, shots=shots, size=size, seed=seed)
    return Videos(f"{source} videos {split}", frames, size, seed, cast)
