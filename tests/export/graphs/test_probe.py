"""The masks that graphs are probed with."""

import numpy as np

from hsnet_trt.export.graphs.probe import Probe, resize_mask


def test_probe_masks_have_no_position_that_rounding_decides():
    grids = [(50, 50), (25, 25), (13, 13)]
    probe = Probe.draw((400, 400), grids, 1, 3, seed=7)
    again = Probe.draw((400, 400), grids, 1, 3, seed=7)
    np.testing.assert_array_equal(probe.supports, again.supports)
    for mask in probe.masks:
        assert 0.05 < mask.mean() < 0.5
        for grid in grids:
            small = resize_mask(mask, grid)
            assert not ((small > 0) & (small < 1e-3)).any()
