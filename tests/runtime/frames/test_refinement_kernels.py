"""The kernels that refine masks by colour, run on the CPU, against the CPU path."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.kernels.guarded_frames import GuardedFrames
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.colour_model import BINS, colour_evidence
from hsnet_trt.runtime.pictures.guided_filter import refine

DTYPE = st.sampled_from(["float16", "float32"])


@settings(max_examples=40, deadline=None)
@given(
    network=st.tuples(st.integers(4, 90), st.integers(4, 90)),
    decoder=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    shots=st.integers(1, 4),
    chunk=st.integers(1, 5),
    dtype=DTYPE,
    seed=st.integers(0, 99),
)
def test_refined_logits_are_those_of_the_cpu(
    *,
    frames: GuardedFrames,
    network: tuple[int, int],
    decoder: tuple[int, int],
    shots: int,
    chunk: int,
    dtype: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    policy = Preprocessing(mean=(0.485, 0.4, 0.5), std=(0.229, 0.3, 0.18))
    planes = rng.normal(0, 1, (3, *network)).astype(dtype)
    logits = rng.normal(0, 2, (shots, 2, *decoder)).astype(dtype)
    seen = frames.guide(planes, decoder, policy.std)
    levels = BINS * (seen["guide"] + np.float32(policy.mean)[:, None, None])
    # Rounding may take a colour to the next bin, whose counts are others.
    assume(np.abs(levels - levels.round()).min() > 1e-5)
    weighed = frames.weigh(logits, seen["guide"], policy.mean, chunk=chunk)
    found = frames.refine(frames.fit(weighed["values"], seen["guide"]), seen["fine"])
    expected = refine(logits.astype(np.float32), planes.astype(np.float32), policy)
    assert not found[:, 0].any() and not weighed["invalid"].any()
    # Probabilities: next to 0 and 1 the logits of two that are alike lie far apart.
    np.testing.assert_allclose(np.tanh(found / 2), np.tanh(expected / 2), atol=2e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_noted_before_it_is_refined(
    frames: GuardedFrames, value: float
) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (3, 2, 6, 9)).astype(np.float32)
    guide = np.random.default_rng(1).random((3, 6, 9)).astype(np.float32)
    assert frames.weigh(logits, guide, (0.5, 0.5, 0.5), chunk=2)["invalid"] == 0
    logits[2, 1, 5, 8] = value
    assert frames.weigh(logits, guide, (0.5, 0.5, 0.5), chunk=2)["invalid"] == 1


@settings(max_examples=40, deadline=None)
@given(
    decoder=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    shots=st.integers(1, 4),
    chunk=st.integers(1, 5),
    bias=st.sampled_from([-100, -2, 0, 2, 100]),
    dtype=DTYPE,
    seed=st.integers(0, 99),
)
def test_colours_are_counted_and_weighed_as_on_the_cpu(
    *,
    frames: GuardedFrames,
    decoder: tuple[int, int],
    shots: int,
    chunk: int,
    bias: float,
    dtype: str,
    seed: int,
) -> None:
    """Few colours, some of them beyond black and white; all, some or none inside the answer."""
    rng = np.random.default_rng(seed)
    mean = np.float32((0.485, 0.4, 0.5))
    guide = rng.choice(np.float32([-0.6, -0.3, 0, 0.3, 0.6]), (3, *decoder))
    logits = rng.normal(0, 2, (shots, 2, *decoder)).astype(dtype)
    logits[:, 1] += bias
    found = frames.weigh(logits, guide, mean, chunk=chunk)
    difference = logits[:, 1].astype(np.float32) - logits[:, 0].astype(np.float32)
    difference += colour_evidence(difference, guide + mean[:, None, None])
    np.testing.assert_allclose(found["values"], np.tanh(difference / 2), atol=2e-6)
    counts = found["counts"].reshape(shots, -1)[:, :-1].reshape(shots, 2, -1)
    inside = (logits[:, 1] > logits[:, 0]).sum((1, 2))
    np.testing.assert_array_equal(counts[:, 1, -1], inside)
    np.testing.assert_array_equal(counts[:, :, :-1].sum(2), counts[:, :, -1])
