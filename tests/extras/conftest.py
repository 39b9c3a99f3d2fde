"""The bundles that the extras are tried with. `make test-extras` installs what they need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras.app_process import CHROMIUM, chromium, served
from extras.page_driver import Page
from helpers.bundles.tiny import make_bundle
from helpers.places import ROOT


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, which segments by colour; to be read only."""
    return make_bundle(tmp_path_factory.mktemp("shared") / "bundle")


@pytest.fixture(scope="session")
def network_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HSNet itself, random weights, at 64 x 64."""
    import torch

    from hsnet_trt.export.bundle import export_bundle
    from hsnet_trt.model import HSNet

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("network") / "bundle"
    export_bundle(HSNet("resnet18"), path, sizes=((64, 64),))
    return path


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that comes along, as `make demo` left it, or exported now."""
    made = ROOT / "demo_output" / "bundle"
    path = tmp_path_factory.mktemp("shipped") / "bundle"
    if (made / "bundle.json").is_file():
        shutil.copytree(made, path)
    else:
        from hsnet_trt.export.bundle import export_bundle
        from hsnet_trt.model.checkpoint import load_checkpoint

        # A size that it is good at, too, and less work than its own.
        export_bundle(load_checkpoint("shipped"), path, sizes=[(256, 256)], precisions=["fp32"])
    return path


# Its event loop would be in the way of other modules' own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; a context of it is a browser of its own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with api.sync_playwright() as playwright, chromium(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the page of the shipped model is served."""
    pytest.importorskip("uvicorn", reason="the extra `app` is not installed")
    # Exported now, not before a test without a browser is skipped.
    with served(request.getfixturevalue("shipped")) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    """The page in a fresh browser, which must meet no error and ask no other host."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(60_000)
    page = Page(context, address)
    yield page
    assert page.problems == []
    assert all(url.startswith((address, "blob:", "data:")) for url in page.asked), page.asked
    context.close()
