"""One network for many sets, on a GPU that is not there too."""

from __future__ import annotations

import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt
from helpers.pictures.page import LEFT, RIGHT, SUPPORT, mask_of

from hsnet_trt import FewShotSegmenter
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.network import Network
from hsnet_trt.serving.app.supports import arrange, encode_shot, most_bytes, shot_bytes


@pytest.mark.usefixtures("packaged_kernels")
def test_on_a_gpu(tmp_path, monkeypatch):
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION, (1, 1, 4)), pycuda=True)
    bundle = engine_bundle(tmp_path / "gpu", engines(4))
    network = Network(bundle, TensorRTRunner(bundle, engines(4)), SIZE, "")
    assert network.runner.frames is not None
    shots = [encode_shot(network, SUPPORT, mask_of(place))[0] for place in (LEFT, RIGHT)]
    sets = [arrange(network, {"one": [shot], "other": [shot]}) for shot in shots]
    sets.append(arrange(network, {"red": [shots[0]] * 3, "green": [shots[1]]}))
    assert all(ready.nbytes <= most_bytes(network, ready.supports.classes) for ready in sets)
    turns = [network.pipeline.segment_all([SUPPORT], ready)[0] for ready in (*sets, *sets)]
    found = [result.labels for result in turns]
    with FewShotSegmenter.load(make_bundle(tmp_path / "cpu"), "onnxruntime") as segmenter:
        for index, classes in enumerate(
            (
                {"one": [LEFT], "other": [LEFT]},
                {"one": [RIGHT], "other": [RIGHT]},
                {"red": [LEFT] * 3, "green": [RIGHT]},
            )
        ):
            segmenter.clear()
            for name, places in classes.items():
                masks = [mask_of(place) for place in places]
                segmenter.set_support(name, [SUPPORT] * len(masks), masks)
            expected = segmenter.segment(SUPPORT).labels
            assert expected.any()
            for labels in (found[index], found[index + 3]):
                assert (labels != expected).mean() < 0.01
    network.close()


@pytest.mark.parametrize("shots", [1, 5])
def test_what_a_set_takes_on_a_cpu(tmp_path, shots):
    network = Network.load(make_bundle(tmp_path / "bundle"), "onnxruntime")
    shot, notes = encode_shot(network, SUPPORT, mask_of(LEFT))
    assert not notes and shot_bytes(shot) <= network.shot_bytes * 2  # indices beside the values
    classes = {"red": [shot] * shots}
    ready = arrange(network, classes)
    assert 0 < ready.nbytes <= most_bytes(network, classes)
    assert classes["red"] == [shot] * shots  # still the caller's own
    network.close()
