"""Fixtures for frames on a GPU: the kernels, run on the CPU."""

from __future__ import annotations

import pytest
from helpers.kernels.guarded_frames import GuardedFrames


@pytest.fixture(scope="module")
def frames(frames_image: bytes) -> GuardedFrames:
    """Starts one kernel at a time, among memory that nobody may touch."""
    return GuardedFrames(frames_image)
