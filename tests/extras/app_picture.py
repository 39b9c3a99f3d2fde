"""Take the README's picture of the page, as it is used by mouse.

.venv-extras/bin/python tests/extras/app_picture.py BUNDLE docs/app.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

from extras.app_process import chromium, served
from extras.page_driver import Page, photograph
from playwright.sync_api import sync_playwright


def main(bundle: Path, out: Path) -> None:
    """Two classes in, two photographs answered; the page as it then looks."""
    shots = {"statue": ["statue-of-liberty/far.jpg"], "multimeter": ["multimeter/red.jpg"]}
    with (
        served(bundle) as address,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        page = Page(browser.new_context(viewport={"width": 1320, "height": 960}), address)
        page.tab.click("#add-class")
        for index, (name, files) in reversed([*enumerate(shots.items())]):
            for file in files:
                path, _, mask = photograph(file)
                page.add_support(path, index=index)
                page.paint(mask, brush=9)
            page.tab.locator(".class input[type=text]").nth(index).fill(name)
            page.tab.locator(".class input[type=text]").nth(index).press("Enter")
        queries = ["statue-of-liberty/near.jpg", "multimeter/blue.jpg"]
        page.add_query(*[photograph(name)[0] for name in queries])
        page.answered(len(queries))
        page.tab.evaluate("() => scrollTo(0, 0)")
        page.tab.mouse.move(5, 5)
        page.tab.screenshot(path=out, type="jpeg", quality=82)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
