"""ONNX Runtime on a GPU that is not there: when it is taken, and what it gets."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.bundles.half import both
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.fakes.onnxruntime import CPU, FakeOnnxRuntime, Machine

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.network import Network

Shot = tuple[np.ndarray, np.ndarray]


def test_the_fake_has_the_surface_of_the_real_package() -> None:
    fake = FakeOnnxRuntime()

    def arguments(function: Callable[..., object]) -> list[tuple[str, object]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.default) for p in found if p.name != "self"]

    for name in ("__version__", "__file__", "package_name", "cuda_version"):
        assert isinstance(getattr(onnxruntime, name), str), name
    for name in (
        "__init__",
        "disable_fallback",
        "get_inputs",
        "get_outputs",
        "get_providers",
        "run",
    ):
        real, ours = (getattr(m.InferenceSession, name) for m in (onnxruntime, fake))
        assert arguments(ours) == arguments(real), name
    assert arguments(fake.preload_dlls) == arguments(onnxruntime.preload_dlls)
    assert CPU in onnxruntime.get_available_providers()
    # `enable_fallback` hides in the keyword arguments.
    content, _ = make_graph("features", SIZE)
    session = onnxruntime.InferenceSession(content, providers=[CPU], enable_fallback=0)
    assert session.get_providers() == [CPU] and session._enable_fallback is False


def test_it_is_the_best_where_there_are_no_engines(
    bundle: Path, machine: Machine, runtime: FakeOnnxRuntime, red_shot: Shot, green_shot: Shot,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO, "hsnet_trt"), FewShotSegmenter.load(bundle) as here:
        assert here.backend == "onnxruntime_cuda"
        assert "not tensorrt_rtx: the bundle holds no engine" in here.backend_reason
        assert here.device == "Fake card (ONNX Runtime 1.31.1, CUDA)"
        chosen = [r for r in caplog.records if r.getMessage().startswith("backend ")]
        assert [r.levelname for r in chosen] == ["INFO"]
        here.set_support("red", *red_shot)
        found = here.segment(green_shot[0])
        with FewShotSegmenter.load(bundle, backend="onnxruntime") as there:
            there.set_support("red", *red_shot)
            expected = there.segment(green_shot[0])
    np.testing.assert_allclose(found.scores["red"], expected.scores["red"], atol=1e-6)
    assert len(runtime.options) == 3
    limits = [int(options["gpu_mem_limit"]) for options in runtime.options]
    assert sum(limits) <= 80 * 2**30 < sum(limits) + 3  # the whole card, and no more
    assert runtime.options[0]["use_tf32"] == "0"
    assert runtime.options[0]["cudnn_conv_algo_search"] == "HEURISTIC"
    assert runtime.options[0]["arena_extend_strategy"] == "kSameAsRequested"
    assert runtime.preloaded == 1 and capsys.readouterr().out == ""


def test_a_card_that_others_use_is_taken_in_part(
    bundle: Path, machine: Machine, runtime: FakeOnnxRuntime
) -> None:
    """The limit bounds the sessions' arenas in all, and what a call is given; pickles keep it."""
    with FewShotSegmenter.load(bundle, gpu_memory=3 * 10**9) as here:
        assert [options["gpu_mem_limit"] for options in runtime.options] == ["1000000000"] * 3
        few = here._network.runner.limits
        with pickle.loads(pickle.dumps(here)) as copy:
            assert copy._network.runner.limits == few
        assert [options["gpu_mem_limit"] for options in runtime.options] == ["1000000000"] * 6
    with FewShotSegmenter.load(bundle) as all_of_it:
        assert all_of_it._network.runner.limits.supports > few.supports
        whole = runtime.options[-1]["gpu_mem_limit"]
    with FewShotSegmenter.load(bundle, gpu_memory=10**15):
        assert runtime.options[-1]["gpu_mem_limit"] == whole
    for senseless in (0, -1):
        with pytest.raises(InputError, match="limit of a GPU's memory"):
            FewShotSegmenter.load(bundle, gpu_memory=senseless)


@pytest.mark.parametrize("faster", ["HEURISTIC", "EXHAUSTIVE"])
def test_auto_times_how_convolutions_are_chosen(
    bundle: Path,
    machine: Machine,
    runtime: FakeOnnxRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faster: str,
) -> None:
    """With one lowering, too; the answer is remembered, with the limit of memory kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    timed: list[str] = []

    def frame_ms(self: Network) -> float:
        timed.append(runtime.options[-1]["cudnn_conv_algo_search"])
        return 3.0 if timed[-1] == faster else 4.0

    monkeypatch.setattr(Network, "frame_ms", frame_ms)
    with FewShotSegmenter.load(bundle, lowering="auto", gpu_memory=3 * 10**9) as here:
        assert timed == ["HEURISTIC", "EXHAUSTIVE"]
        assert "conv2d exhaustive" in here.backend_reason and "timed now" in here.backend_reason
        assert runtime.options[-1]["cudnn_conv_algo_search"] == faster
        with pickle.loads(pickle.dumps(here)) as copy:
            assert "remembered" in copy.backend_reason and len(timed) == 2
            assert runtime.options[-1]["cudnn_conv_algo_search"] == faster
            assert runtime.options[-1]["gpu_mem_limit"] == "1000000000"


def test_fp16_is_preferred_and_computed_in_fp16(
    tmp_path: Path, machine: Machine, runtime: FakeOnnxRuntime, red_shot: Shot
) -> None:
    with FewShotSegmenter.load(both(tmp_path / "b")) as segmenter:
        assert segmenter.precision == "fp16"
        segmenter.set_support("red", *red_shot)
        assert segmenter.segment(red_shot[0]).masks["red"].any()
        assert runtime.fed == {np.dtype(np.float16)}
        assert {c.values.dtype for shot in segmenter._current.supports for c in shot.values()} == {
            np.dtype(np.float16)
        }
    with FewShotSegmenter.load(tmp_path / "b", precision="fp32") as segmenter:
        assert (segmenter.backend, segmenter.precision) == ("onnxruntime_cuda", "fp32")
