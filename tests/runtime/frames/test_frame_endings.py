"""Frames on a GPU that fail, and streams that end in the middle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fakes.gpu_segmenter import load
from helpers.pictures.frame_answers import pictures

from hsnet_trt.errors import BackendError

Shot = tuple[np.ndarray, np.ndarray]


@pytest.mark.usefixtures("packaged_kernels")
@pytest.mark.parametrize("refine", [False, True])
def test_logits_that_are_not_finite_are_an_error_of_that_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot, refine: bool
) -> None:
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch, refine=refine)
    with segmenter:
        segmenter.set_support("red", *red_shot)
        session = sys.modules["tensorrt"].engines[2].session
        true_run = session.run
        calls: list[int] = []

        class Spoiled:
            get_outputs = session.get_outputs

            def run(self, outputs: Any, feed: Any) -> Any:
                calls.append(1)
                answer = true_run(outputs, feed)
                if len(calls) == 2:
                    answer[0][:] = np.inf
                return answer

        sys.modules["tensorrt"].engines[2].session = Spoiled()
        found = list(segmenter.stream(pictures(4)))
        assert [f.error is None for f in found] == [True, False, True, True]
        assert "not finite" in str(found[1].error)
    assert driver.settled()


@pytest.mark.usefixtures("packaged_kernels")
def test_closing_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, red_shot: Shot
) -> None:
    """During a stream, with frames under way; then by losing a stream; then by an exception."""
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    stream = segmenter.stream(pictures(8), slots=3)
    next(stream)
    segmenter.close()
    with pytest.raises(BackendError, match="closed during a stream"):
        next(stream)
    assert driver.settled()
    segmenter, driver, _ = load(tmp_path / "b", monkeypatch)
    segmenter.set_support("red", *red_shot)
    for frame in segmenter.stream(pictures(8)):
        assert frame.result is not None
        break
    with pytest.raises(ZeroDivisionError), segmenter:
        for frame in segmenter.stream(pictures(8)):
            assert frame.index / 0
    assert driver.settled()
