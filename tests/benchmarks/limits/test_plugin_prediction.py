"""The prediction of the correlation's times, against what was measured and plain launches."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.places import ROOT

from hsnet_trt.benchmarks.limits.plugin_blocks import (
    EARLIER_FORMS,
    FORMS,
    MULTIPROCESSORS,
    Case,
    Parts,
    case,
)
from hsnet_trt.benchmarks.limits.plugin_prediction import (
    CLOCK,
    Constants,
    fit,
    measured,
    predict,
    table,
)
from hsnet_trt.trt_plugins.occupancy import level_plan
from hsnet_trt.trt_plugins.plan import TILES

NO_LIMIT = 1e30  # bytes a second


def test_it_explains_what_was_measured_and_the_page_shows_it() -> None:
    rows = measured()
    constants, errors = fit(rows)
    assert len(rows) == 48
    assert np.sqrt(np.mean(errors**2)) < 0.12  # of rows that the fit had not seen
    # The page shows the table that the command prints, but for the last digit of other libraries.
    page = (ROOT / "trt_plugins" / "README.md").read_text()
    for line in table(constants).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        shown = re.search(rf"^\\| {' [|] '.join(cells[:4])} [|] ([0-9.]+) [|]", page, re.MULTILINE)
        assert shown is not None, line
        assert float(shown[1]) == pytest.approx(float(cells[4]), abs=0.002)


def test_blocks_overlap_their_waits_and_not_their_work() -> None:
    form = FORMS["large_f16"]  # two blocks live on a multiprocessor
    waiting = Constants(issue=1e-9, wavefront=1e-9, step=1000, window=0, block=0, launch=0)
    working = Constants(issue=1, wavefront=1e-9, step=1e-9, window=0, block=0, launch=0)
    block = Parts(10, 0, 0, 0)
    one, pair, three = (
        Case(form, (block,) * (MULTIPROCESSORS * count), shifted=False, bytes=0)
        for count in (1, 2, 3)
    )
    waits = 10 * 1000 / CLOCK
    assert predict(one, waiting, NO_LIMIT) == pytest.approx(waits)
    assert predict(pair, waiting, NO_LIMIT) == pytest.approx(waits)
    assert predict(three, waiting, NO_LIMIT) == pytest.approx(2 * waits)
    works = 10 * form.loop * form.warps / 4 / CLOCK
    assert predict(pair, working, NO_LIMIT) == pytest.approx(2 * works)
    # Those left over go to whichever multiprocessor is free first, two to one of them.
    assert 3 * works <= predict(three, working, NO_LIMIT) <= 4.001 * works
    bytes_alone = Case(form, (block,), shifted=False, bytes=10**9)
    assert predict(bytes_alone, waiting, 1e12) == pytest.approx(1.0)


def test_forms_are_those_of_the_plan() -> None:
    for name, form in FORMS.items():
        tiles, suffix = name.split("_")
        plan = level_plan(2, 2 if suffix == "f16" else 4)
        assert form.tile == TILES[tiles]
        assert 32 * form.warps == plan.correlate(tiles).threads
        grid = plan.correlate(tiles, MULTIPROCESSORS).grid
        assert len(case("level 2", None, plan.element_size, form).blocks) == np.prod(grid)
        assert len(case("level 2", 0.2, plan.element_size, form).blocks) == np.prod(grid)


@pytest.mark.parametrize("form", [*EARLIER_FORMS.values(), *FORMS.values()])
@pytest.mark.parametrize("area", [None, 0.2])
def test_blocks_store_every_byte_once(area: float | None, form: object) -> None:
    size = 2 if form in (*list(EARLIER_FORMS.values())[:2], *list(FORMS.values())[:3]) else 4
    launch = case("level 3", area, size, form)  # type: ignore[arg-type]
    elements = 6 * 625 * (625 + 49)
    each = 4 if launch.form.earlier else 1  # elements were stored one by one
    stored = sum(parts.sectors for parts in launch.blocks) * 32 / size / each
    assert stored == pytest.approx(elements, rel=0.03)
