"""What is no sweep, and what ends one."""

from __future__ import annotations

import pytest
from extras.sweep.pictures import PLAN, fill

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.serving.sweep.plan import begin, finished
from hsnet_trt.serving.sweep.sweep import sweep
from hsnet_trt.serving.sweep.worker import SweepWorker

pytest.importorskip("ray.data", reason="the extra `sweep` is not installed")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_what_is_no_sweep(bundle, supports, tmp_path):
    fill(tmp_path / "images", 2)
    images, out = str(tmp_path / "images"), str(tmp_path / "results")
    begin(out, images, PLAN, 4)
    assert begin(out, images, PLAN).part == begin(out, images, PLAN, 4).part == 4
    with pytest.raises(InputError, match="begun in other parts") as caught:
        begin(out, images, PLAN, 100)
    assert caught.value.expected == "parts of 4 images" and "--part" in str(caught.value.fix)
    with pytest.raises(InputError, match="another sweep") as caught:
        begin(out, images, {**PLAN, "supports_sha256": "c"}, 4)
    assert "supports_sha256" in str(caught.value)
    with pytest.raises(InputError, match="another sweep"):
        sweep(bundle, supports, images, out)
    with pytest.raises(InputError, match="something else"):
        begin(images, images, PLAN, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    with pytest.raises(InputError, match="cannot be listed"):
        begin(str(tmp_path / "new"), str(tmp_path / "nowhere"), PLAN, 4)
    with pytest.raises(InputError, match="cannot be reached"):
        begin(str(tmp_path / "new"), "nonsense://bucket/folder", PLAN, 4)
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "empty" / "x.parquet")
    with pytest.raises(InputError, match="holds no images"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    (tmp_path / "empty" / "x.parquet").write_bytes(b"PAR1 or so")
    with pytest.raises(InputError, match="cannot be read"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    with pytest.raises(InputError, match="no support set"):
        sweep(bundle, tmp_path / "none.npz", images, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_network_that_fails_everywhere_ends_the_sweep(bundle, supports, tmp_path, monkeypatch):
    fill(tmp_path / "images", 4)
    out = str(tmp_path / "results")
    plan = begin(out, str(tmp_path / "images" / "below"), PLAN, 2)
    content = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(content, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    runner = worker._segmenter._network.runner

    def fails(graph: str, inputs: dict) -> dict:
        raise BackendError("out of memory")

    monkeypatch.setattr(runner, "run", fails)
    with pytest.raises(BackendError, match="every image of part 0") as caught:
        worker.sweep(0)
    assert "out of memory" in str(caught.value)
    assert finished(out, plan) == set()


def test_ray_that_does_not_start(bundle, supports, tmp_path, monkeypatch):
    import ray

    fill(tmp_path / "images", 2)
    tried = []

    def fails(**options: object) -> None:
        tried.append(options)
        raise Exception("The current node timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    place = (bundle, supports, str(tmp_path / "images"), str(tmp_path / "results"))
    with pytest.raises(BackendError, match="Ray could not start") as caught:
        sweep(*place)
    assert "timed out" in str(caught.value) and len(tried) == 3
    with pytest.raises(BackendError, match="no Ray cluster answers"):
        sweep(*place, address="nowhere:6379")
    assert tried[-1]["address"] == "nowhere:6379"
    with pytest.raises(InputError, match="needs workers"):
        sweep(*place, workers=0)
