"""How time and memory grow with shots, classes and size."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers.fakes.race import OURS, FakeWorker, record

from hsnet_trt.benchmarks.speed import scaling
from hsnet_trt.benchmarks.speed.contenders import Spec
from hsnet_trt.benchmarks.speed.page import markdown
from hsnet_trt.benchmarks.speed.race import Outcome

pytestmark = pytest.mark.xdist_group("benchmarks")


def test_scaling_is_judged_step_by_step(monkeypatch):
    class Grows(FakeWorker):
        """Linear in shots, faster than linear in classes, less than linear in pairs."""

        def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
            super().__init__(spec, size)
            self.side = size[0]

        def call(self, method: str, *arguments: Any) -> Any:
            if method == "prepare":
                (self.case,) = arguments
            if method == "memory":
                return {"host_bytes": 10**9 + 80 * 10**6 * self.case.classes}
            if method == "latency":
                time = 100.0 * self.case.shots * self.case.classes**1.1
                return [time if self.side == 400 else time / 3]
            return 0.1

    monkeypatch.setattr(scaling, "RemoteWorker", Grows)
    monkeypatch.setattr(scaling, "draw_inputs", lambda case, grids: case)
    spec = dataclasses.replace(OURS, backbone="resnet18")
    found = scaling.measure(spec, [(400, 400), (256, 256)])
    by = {(s.what, s.case.shots, s.case.classes, s.case.size[0]): s for s in found}
    assert by["shots", 5, 1, 400].growth == pytest.approx(5) and by["shots", 5, 1, 400].linear
    assert not by["classes", 1, 50, 400].linear
    pairs = by["pairs of positions", 1, 1, 400]
    assert pairs.times == pytest.approx((50**4 + 25**4 + 13**4) / (32**4 + 16**4 + 8**4))
    assert pairs.growth == pytest.approx(3) and pairs.linear
    said = scaling.summary(found)
    assert "FASTER than linearly in classes" in said[1] and "no faster" in said[2]
    assert "50 registered classes do NOT fit in 4 GB: the process takes 5.00 GB" in said[3]
    assert len(scaling.measure(spec, [(400, 400)])) == 6
    page = markdown(dataclasses.replace(record(Outcome()), scaling=found))
    assert "## Scaling" in page and said[1] in page
