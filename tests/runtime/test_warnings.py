"""Warnings point at the line that called the package, whatever lies between."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.two_boxes import QUERY, Shot
from helpers.places import ROOT

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import HSNetWarning
from hsnet_trt.runtime.pictures.images import read_image
from hsnet_trt.runtime.pictures.masks import read_mask

DARK = (np.arange(96 * 128 * 3).reshape(96, 128, 3) % 4000).astype(np.uint16)


def where(call: Callable[[], object], says: str) -> tuple[str, str]:
    """File and text of the line that the only warning of a call points at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (warning,) = caught
    assert issubclass(warning.category, HSNetWarning) and says in str(warning.message)
    lines = Path(warning.filename).read_text().splitlines()
    return warning.filename, lines[warning.lineno - 1].strip()


@pytest.mark.parametrize("fault", ["whole", "photograph", "vanishes", "dark"])
def test_supports(segmenter: FewShotSegmenter, red_shot: Shot, fault: str) -> None:
    image, mask = red_shot
    small = np.zeros_like(mask)
    small[40:50, 40:50] = True
    shots = {
        "whole": (image, np.ones_like(mask), "covers its whole image"),
        "photograph": (image, np.where(mask, 255, 100).astype(np.uint8), "looks like a photograph"),
        "vanishes": (image, small, "vanishes"),
        "dark": (np.broadcast_to(DARK[:1, :1] + 4000, image.shape), mask, "nearly black"),
    }
    picture, plane, says = shots[fault]

    def call() -> None:
        segmenter.set_support("x", [picture], [plane])

    assert where(call, says) == (__file__, 'segmenter.set_support("x", [picture], [plane])')


def test_queries(segmenter: FewShotSegmenter, red_shot: Shot) -> None:
    segmenter.set_support("red", *red_shot)

    def one() -> None:
        segmenter.segment(DARK)

    def several() -> None:
        segmenter.segment_batch([QUERY, DARK])

    assert where(one, "nearly black") == (__file__, "segmenter.segment(DARK)")
    assert where(several, "nearly black") == (__file__, "segmenter.segment_batch([QUERY, DARK])")


def test_readers() -> None:
    mask = np.ones((96, 128), bool)
    assert where(lambda: read_image(DARK), "nearly black")[0] == __file__
    assert where(lambda: read_mask(mask, mask.shape), "covers its whole image")[0] == __file__


def test_a_thread_of_a_stream_points_into_the_package(
    segmenter: FewShotSegmenter, red_shot: Shot
) -> None:
    segmenter.set_support("red", *red_shot)
    file, _ = where(lambda: list(segmenter.stream([QUERY, DARK])), "nearly black")
    assert file == inspect.getfile(read_image)


def test_nobody_counts_frames() -> None:
    """What warns does so by `errors.warn`."""
    for path in ROOT.glob("*/**/*.py"):
        stage = path.relative_to(ROOT).parts[0]
        if not stage.startswith(".") and stage not in ("tests", "build"):
            assert "stacklevel=" not in path.read_text(), path
