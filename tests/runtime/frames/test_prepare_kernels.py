"""The kernels that resize and normalise frames, run on the CPU, against Pillow and the CPU path."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.kernels.guarded_frames import GuardedFrames
from helpers.pictures.by_pillow import by_pillow, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.frames.frame_tables import resize_taps
from hsnet_trt.runtime.pictures.preprocess import network_input, place

SIDE = st.integers(1, 150)
POLICY = st.sampled_from(["stretch", "letterbox"])
DTYPE = st.sampled_from(["float16", "float32"])


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(SIDE, SIDE),
    network=st.tuples(SIDE, SIDE),
    policy=POLICY,
    dtype=DTYPE,
    pad=st.integers(0, 7),
    bgr=st.booleans(),
    seed=st.integers(0, 99),
)
def test_preparing_is_pillow_to_the_bit(
    *,
    frames: GuardedFrames,
    size: tuple[int, int],
    network: tuple[int, int],
    policy: str,
    dtype: str,
    pad: int,
    bgr: bool,
    seed: int,
) -> None:
    image, placement = noise(seed, *size), place(size, network, policy)
    given = np.ascontiguousarray(image[:, :, ::-1]) if bgr else image
    found = frames.prepare(given, placement, dtype, pad=pad, swap=bgr)
    np.testing.assert_array_equal(found, by_pillow(image, placement).astype(dtype))
    usual = network_input([image], network, Preprocessing(resize=policy))[0][0]
    np.testing.assert_array_equal(found, usual.astype(dtype))


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (480, 640), (1280, 720), (400, 400)])
def test_preparing_a_cameras_frame_is_the_cpu_path_to_the_bit(
    frames: GuardedFrames, size: tuple[int, int], policy: str
) -> None:
    image = noise(1, *size)
    expected = network_input([image], (400, 400), Preprocessing(resize=policy))[0][0]
    placement = place(size, (400, 400), policy)
    found = frames.prepare(image, placement, "float32", pad=0, swap=False)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 700))
def test_the_taps_are_pillows(source: int, target: int) -> None:
    """One pass, so that the order of passes does not matter: exact, whatever the scale."""
    bounds, taps = resize_taps(source, target)
    line = np.random.default_rng(source).integers(0, 256, (1, source), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(line).resize((target, 1), Image.Resampling.BILINEAR))
    for x, (first, count) in enumerate(bounds):
        total = int(line[0, first : first + count].astype(np.int64) @ taps[x, :count])
        assert (total + (1 << 21)) >> 22 == expected[0, x]
    assert not np.any(taps * (np.arange(taps.shape[1]) >= bounds[:, 1:]))
