"""FP16 through the runtime: graphs, engines, frames on a GPU, and supports that change precision.

The tiny bundle's graphs are made FP16 by the pass that the real ones go through.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.half import both, half
from helpers.bundles.tiny_graphs import FORMS, SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.pictures.scenes import GREEN, RED, scene

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError, HSNetError
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.verify import verify_bundle

Shot = tuple[np.ndarray, np.ndarray]
QUERY = scene(
    (200, 300),
    [(RED, (slice(50, 150), slice(50, 200))), (GREEN, (slice(160, 195), slice(20, 280)))],
)


def kinds(segmenter: FewShotSegmenter) -> set[np.dtype]:
    return {
        columns.values.dtype for shot in segmenter._current.supports for columns in shot.values()
    }


def test_a_cpu_runs_fp16_when_it_is_asked_to(
    tmp_path: Path, red_shot: Shot, green_shot: Shot
) -> None:
    path = both(tmp_path / "b")
    answers = {}
    for precision, runs in ((None, "fp32"), ("fp32", "fp32"), ("fp16", "fp16")):
        with FewShotSegmenter.load(path, backend="onnxruntime", precision=precision) as segmenter:
            assert segmenter.precision == runs
            segmenter.set_support("red", *red_shot)
            segmenter.set_support("green", [green_shot[0]] * 2, [green_shot[1]] * 2)
            assert kinds(segmenter) == {np.dtype("float16" if runs == "fp16" else "float32")}
            answers[precision] = segmenter.segment(QUERY)
    for name in ("red", "green"):
        exact, rounded = answers["fp32"], answers["fp16"]
        assert rounded.scores[name].dtype == np.float32
        np.testing.assert_allclose(rounded.scores[name], exact.scores[name], atol=5e-3)
        assert exact.masks[name].any()
        assert (rounded.masks[name] != exact.masks[name]).mean() < 2e-3


def test_supports_travel_between_precisions(tmp_path: Path, red_shot: Shot) -> None:
    path = both(tmp_path / "b")
    sizes, masks = {}, {}
    for first, second in (("fp32", "fp16"), ("fp16", "fp32")):
        file = tmp_path / f"{first}.npz"
        with FewShotSegmenter.load(path, backend="onnxruntime", precision=first) as segmenter:
            segmenter.set_support("red", *red_shot)
            segmenter.save_supports(file)
            masks[first] = segmenter.segment(QUERY).masks["red"]
        with np.load(file, allow_pickle=False) as archive:
            sizes[first] = archive["0_0_s2"].nbytes
        with FewShotSegmenter.load(path, backend="onnxruntime", precision=second) as segmenter:
            segmenter.load_supports(file)
            found = segmenter.segment(QUERY).masks["red"]
        assert (found != masks[first]).mean() < 2e-3
    assert 2 * sizes["fp16"] == sizes["fp32"]


def test_verify_judges_each_precision_by_its_own_tolerance(tmp_path: Path) -> None:
    path = both(tmp_path / "b")
    for precision, bound in (("fp32", 1e-3), ("fp16", 2e-2)):
        (result,) = verify_bundle(path, "onnxruntime", precision=precision)
        assert (result.precision, result.tolerance.max_difference) == (precision, bound)
        assert result.passed
    assert 1e-4 < result.figures[-1].relative < 2e-2  # it is FP16, and not FP32 under its name
    (result,) = verify_bundle(both(tmp_path / "strict", 1e-6), "onnxruntime", precision="fp16")
    assert not result.passed
    with pytest.raises(BundleError, match="does not hold the graphs"):
        verify_bundle(path, "onnxruntime", precision="int8")


def test_what_overflows_is_an_error_in_words(tmp_path: Path, red_shot: Shot) -> None:
    """Features of 65504 times 1000 are infinite in FP16: no mask is made of that."""
    path = both(tmp_path / "b")
    with FewShotSegmenter.load(path, backend="onnxruntime", precision="fp16") as segmenter:
        segmenter.set_support("red", *red_shot)
        segmenter._current.supports.classes["red"][0]["s2"].values[:] = np.float16(np.inf)
        with pytest.raises((BackendError, HSNetError), match="not finite") as caught:
            segmenter.segment(QUERY)
    assert "fp32" in str(caught.value.fix)


@pytest.mark.parametrize("frames", [True, False], ids=["frames on the GPU", "frames by the CPU"])
def test_engines_in_fp16_give_what_fp32_gives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    red_shot: Shot,
    green_shot: Shot,
    frames: bool,
    request: pytest.FixtureRequest,
) -> None:
    """Features, supports and logits of two bytes a value lie where engines and kernels look."""
    if frames:
        request.getfixturevalue("packaged_kernels")
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION), bindings=True)
    made = {
        graph: dataclasses.replace(
            engine, variant=dataclasses.replace(engine.variant, precision="fp16")
        )
        for graph, engine in engines().items()
    }
    bundle = engine_bundle(tmp_path / "b", made, **{g: half(g)[1] for g in FORMS})
    runner = TensorRTRunner(bundle, made)
    assert (runner.precision, runner.frames is not None) == ("fp16", frames)
    with (
        FewShotSegmenter(Network(bundle, runner, SIZE, "")) as here,
        FewShotSegmenter.load(tmp_path / "b", backend="onnxruntime") as there,
    ):
        for segmenter in (here, there):
            segmenter.set_support("red", [red_shot[0]] * 5, [red_shot[1]] * 5)
            segmenter.set_support("green", *green_shot)
        assert kinds(here) == {np.dtype("float16")}
        for query in (QUERY, QUERY[:, ::-1].copy()):
            found, wanted = here.segment(query), there.segment(query)
            for name in ("red", "green"):
                assert wanted.masks[name].any()
                assert (found.masks[name] != wanted.masks[name]).mean() < 1e-2
                np.testing.assert_allclose(found.scores[name], wanted.scores[name], atol=3e-2)
    assert driver.settled()
