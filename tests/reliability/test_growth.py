"""Long runs on the CPU: nothing grows, and threads get what one of them would get alone."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.scenes import scene
from reliability.amount import amount

from hsnet_trt import FewShotSegmenter

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
PLACE = (slice(20, 100), slice(30, 150))
MASK = np.zeros((128, 192), bool)
MASK[PLACE] = True
MIB = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("growth") / "bundle")


def picture(colour: tuple[int, int, int] = (220, 30, 30)) -> np.ndarray:
    return scene((128, 192), [(colour, PLACE)])


def memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_frames(bundle):
    count = amount(few=300, all_of_them=20_000)
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        segmenter.set_support("mug", picture(), MASK)
        frame = picture()
        for _ in segmenter.stream(frame for _ in range(200)):
            pass
        before = memory()
        done = sum(f.result is not None for f in segmenter.stream(frame for _ in range(count)))
        grown = memory() - before
    print(f"{count} frames: {grown / MIB:+.1f} MiB")
    assert done == count
    assert grown < 16 * MIB


def test_changes_of_the_support_set(bundle):
    count = amount(few=60, all_of_them=2_000)
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:

        def change(number: int) -> None:
            segmenter.set_support(f"class {number % 7}", picture((number % 200, 90, 30)), MASK)
            segmenter.segment(picture())
            if number % 5 == 0:
                segmenter.remove_support(segmenter.classes[0])

        for number in range(30):
            change(number)
        before = memory()
        for number in range(count):
            change(number)
        grown = memory() - before
    print(f"{count} changes of the support set: {grown / MIB:+.1f} MiB")
    assert grown < 16 * MIB


def test_loading_and_closing(bundle):
    count = amount(few=20, all_of_them=200)

    def cycle() -> None:
        with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
            segmenter.set_support("mug", picture(), MASK)
            for _ in segmenter.stream([picture()] * 2):
                pass

    for _ in range(3):
        cycle()
    before = descriptors(), threads(), threading.active_count()
    at_first = memory()
    for _ in range(count):
        cycle()
    print(f"{count} cycles: {(memory() - at_first) / MIB:+.1f} MiB")
    after = descriptors(), threads(), threading.active_count()
    # Threads of earlier tests may end meanwhile; a leak of one a cycle is more than they are.
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)


def test_threads_of_different_classes(bundle):
    """Eight segmenters, each with a class of its own, at once and one after the other."""
    colours = [(25 * i, 220 - 20 * i, 30 + 20 * i) for i in range(8)]
    query = picture((100, 100, 100))

    def answer(colour: tuple[int, int, int]) -> list[np.ndarray]:
        with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
            segmenter.set_support("mug", picture(colour), MASK)
            return [segmenter.segment(query).scores["mug"] for _ in range(5)]

    alone = [answer(colour) for colour in colours]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, colours))
    np.testing.assert_array_equal(together, alone)


def test_threads_that_share_one_segmenter(bundle):
    """Each sets its own class and asks; classes of others come and go meanwhile."""
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        expected = {}
        for number in range(8):
            segmenter.clear()
            segmenter.set_support(f"c{number}", picture((25 * number, 90, 30)), MASK)
            expected[f"c{number}"] = segmenter.segment(picture()).scores[f"c{number}"]
        segmenter.clear()

        def work(number: int) -> None:
            name = f"c{number}"
            for _ in range(5):
                segmenter.set_support(name, picture((25 * number, 90, 30)), MASK)
                found = segmenter.segment(picture()).scores[name]
                np.testing.assert_allclose(found, expected[name], atol=1e-5)
                segmenter.remove_support(name)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
