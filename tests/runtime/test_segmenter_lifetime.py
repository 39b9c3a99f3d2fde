"""The embedded API among threads, after it is closed, and as a pickle."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.pictures.two_boxes import QUERY, Shot

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError, HSNetError
from hsnet_trt.runtime.bundle import Bundle


def test_use_after_close_names_the_call(bundle: Path, red_shot: Shot, tmp_path: Path) -> None:
    segmenter = FewShotSegmenter.load(bundle)
    segmenter.set_support("red", *red_shot)
    segmenter.close()
    segmenter.close()
    calls = {
        "segment": (QUERY,),
        "segment_batch": ([QUERY],),
        "set_support": ("red", *red_shot),
        "remove_support": ("red",),
        "clear": (),
        "save_supports": (tmp_path / "x.npz",),
        "load_supports": (tmp_path / "x.npz",),
    }
    for call, arguments in calls.items():
        with pytest.raises(BackendError, match=f"{call} was called on .* closed"):
            getattr(segmenter, call)(*arguments)


def test_threads_segment_while_supports_change(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot
) -> None:
    segmenter.set_support("red", *red_shot)
    expected = segmenter.segment(QUERY).scores["red"]
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            segmenter.set_support("green", *green_shot)
            segmenter.remove_support("green")

    with ThreadPoolExecutor(5) as pool:
        changing = pool.submit(change)
        results = list(pool.map(lambda _: segmenter.segment(QUERY), range(40)))
        stop.set()
        changing.result()
    for result in results:
        assert result.classes in (("red",), ("red", "green"))
        assert tuple(result.masks) == tuple(result.scores) == result.classes
        np.testing.assert_allclose(result.scores["red"], expected, atol=1e-6)


def test_close_waits_for_calls_under_way(bundle: Path, red_shot: Shot) -> None:
    segmenter = FewShotSegmenter.load(bundle)
    segmenter.set_support("red", *red_shot)
    inside, go = threading.Event(), threading.Event()
    run = segmenter._network.runner.run

    def slow(graph: str, inputs: dict) -> dict:
        inside.set()
        assert go.wait(20)
        return run(graph, inputs)

    segmenter._network.runner.run = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        result = pool.submit(segmenter.segment, QUERY)
        assert inside.wait(20)
        closing = pool.submit(segmenter.close)
        with pytest.raises(HSNetError, match="closed"):
            for _ in range(2000):
                segmenter.clear() if segmenter._current.closed else threading.Event().wait(0.01)
        assert not closing.done()
        go.set()
        assert result.result(20).masks["red"].any()
        closing.result(20)


def test_a_pickle_opens_the_bundle_again_with_the_supports(
    segmenter: FewShotSegmenter, red_shot: Shot, green_shot: Shot
) -> None:
    """In processes of their own, as joblib and Ray start them; and copies in this one."""
    with pickle.loads(pickle.dumps(segmenter)) as empty:
        assert empty.classes == ()
    segmenter.set_support("red", [red_shot[0]] * 2, [red_shot[1]] * 2)
    segmenter.set_support("green", *green_shot)
    expected = segmenter.segment(QUERY)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        results = [pool.submit(segmenter.segment, QUERY).result(120)]
    for twin in (copy.copy(segmenter), copy.deepcopy(segmenter)):
        with twin:
            assert (twin.backend, twin.size) == (segmenter.backend, segmenter.size)
            results.append(twin.segment(QUERY))
    for result in results:
        assert result.classes == expected.classes
        for name in expected.classes:
            np.testing.assert_allclose(result.scores[name], expected.scores[name], atol=1e-6)
    assert segmenter.segment(QUERY).masks["red"].any()  # the first one is not closed by its copies


def test_a_pickle_of_a_relative_path_finds_the_bundle_from_elsewhere(
    bundle: Path, red_shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    with FewShotSegmenter.load(bundle.name, "onnxruntime") as segmenter:
        segmenter.set_support("red", *red_shot)
        before = pickle.dumps(segmenter)
        monkeypatch.chdir(tmp_path)
        for pickled in (before, pickle.dumps(segmenter)):
            with pickle.loads(pickled) as twin:
                assert twin.segment(QUERY).masks["red"].any()
    assert Bundle.open(bundle).path == bundle


def test_an_opened_bundle_is_read_from_elsewhere(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    opened = Bundle.open(bundle.name)
    monkeypatch.chdir(tmp_path)
    opened.check()
    with pytest.raises(BundleError, match=f"there is no bundle at {bundle.name}\n"):
        Bundle.open(bundle.name)


def test_a_pickle_of_another_bundle_or_of_a_closed_segmenter_is_refused(tmp_path: Path) -> None:
    segmenter = FewShotSegmenter.load(make_bundle(tmp_path / "b"), "onnxruntime")
    pickled = pickle.dumps(segmenter)
    segmenter.close()
    with pytest.raises(BackendError, match="closed"):
        pickle.dumps(segmenter)
    manifest = tmp_path / "b" / "bundle.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(BundleError, match="not the bundle that was asked for"):
        pickle.loads(pickled)


_FORKED = """
import os, sys
import numpy as np
from hsnet_trt import FewShotSegmenter

bundle, ending = sys.argv[1:]
mask = np.zeros((96, 128), bool)
mask[20:70, 30:90] = True
image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
segmenter = FewShotSegmenter.load(bundle, "onnxruntime")
segmenter.set_support("x", image, mask)
expected = segmenter.segment(image).scores["x"]
child = os.fork()
if child == 0:
    if ending != "unused":
        np.testing.assert_allclose(segmenter.segment(image).scores["x"], expected, atol=1e-6)
    if ending == "closed":
        segmenter.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
np.testing.assert_allclose(segmenter.segment(image).scores["x"], expected, atol=1e-6)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("ending", ["unused", "used", "closed"])
def test_a_process_forked_from_a_loaded_one_segments_and_ends(bundle: Path, ending: str) -> None:
    """As the workers of a web server that loads the segmenter before it forks them.

    Two threads, since a session without threads of its own has none to wait for.
    """
    subprocess.run(
        [sys.executable, "-c", _FORKED, str(bundle), ending],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=60,
        check=True,
    )
