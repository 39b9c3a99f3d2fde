"""Drawn videos as tests compare them."""

from __future__ import annotations

import hashlib

from hsnet_trt.data.drawn.videos import Video


def digest(video: Video) -> str:
    """One hash of every byte of a video: supports, frames, truth, motion."""
    content = hashlib.sha256(video.supports.tobytes() + video.support_masks.tobytes())
    for frame in video:
        for part in (frame.image, frame.truth, frame.origin):
            content.update(part.tobytes())
    return content.hexdigest()
