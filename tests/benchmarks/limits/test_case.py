"""The pictures and masks that are timed."""

from __future__ import annotations

import pytest

from hsnet_trt.benchmarks.limits.case import VARIANTS, Case, draw_inputs
from hsnet_trt.errors import InputError
from hsnet_trt.model.hsnet import HSNet

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.mark.parametrize("area", [0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_masks_cover_what_is_asked_for(area, size):
    grids = HSNet("resnet18").grids(size)
    case = Case("resnet18", size, shots=2, classes=2, area=area)
    inputs, again = draw_inputs(case, grids), draw_inputs(case, grids)
    masks = [mask for s in inputs.supports for shots in s.masks for mask in shots]
    assert len(masks) == 4 * VARIANTS and all(mask.shape == size for mask in masks)
    for mask in masks:
        assert mask.mean() == pytest.approx(area, abs=0.035)
    assert (inputs.queries[0][0] == again.queries[0][0]).all()
    assert (inputs.queries[0][0] != inputs.queries[1][0]).any()


@pytest.mark.parametrize("area", [0, -1, 1.5, float("nan")])
def test_an_area_that_is_none_is_refused(area):
    with pytest.raises(InputError, match="area"):
        draw_inputs(Case("resnet18", (64, 64), area=area), HSNet("resnet18").grids((64, 64)))
