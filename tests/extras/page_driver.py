"""What a person does on the page, by mouse, and what they then see."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from helpers.places import ROOT
from PIL import Image

PHOTOGRAPHS = ROOT / "cli" / "demo_photographs"


class Page:
    """A browser tab with the page open, and all that it asked for."""

    def __init__(self, context: Any, address: str) -> None:
        self.tab = context.new_page()
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on(
            "console",
            lambda said: self.problems.append(said.text) if said.type == "error" else None,
        )
        self.tab.goto(address)
        self.tab.wait_for_selector("body[data-ready]")

    def add_support(self, *files: Path, index: int = 0) -> None:
        """Add photographs (a mask of the same stem may come with one) to a class."""
        card = self.tab.locator(".class").nth(index)
        before = card.locator(".shot").count()
        card.locator("input[type=file]").set_input_files([str(file) for file in files])
        photographs = len({file.stem for file in files})
        self.tab.wait_for_function(
            "([i, n]) => document.querySelectorAll('.class')[i]?.querySelectorAll('.shot').length"
            " === n",
            arg=[index, before + photographs],
        )
        self.tab.wait_for_selector("#editor:not([hidden])")

    def add_query(self, *files: Path) -> None:
        self.tab.locator("#queries").set_input_files([str(file) for file in files])

    def drop(self, place: str, file: Path) -> None:
        """Drop a file, as from a file manager."""
        content = base64.b64encode(file.read_bytes()).decode()
        self.tab.locator(place).evaluate(
            """(place, [name, content]) => {
                const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([bytes], name));
                place.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
            }""",
            [file.name, content],
        )

    def answered(self, count: int = 1) -> None:
        """Wait until so many photographs are segmented, and none is out of date."""
        self.tab.wait_for_function(
            "n => document.querySelectorAll('.result').length === n &&"
            " document.querySelectorAll('.result[data-state=done]').length === n",
            arg=count,
        )

    def stroke(self, points: list[tuple[float, float]]) -> None:
        """Drag the mouse over the stage, along points in shares of its width and height."""
        area = self.area()
        at = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in points]
        self.tab.mouse.move(*at[0])
        self.tab.mouse.down()
        for point in at[1:]:
            self.tab.mouse.move(*point, steps=4)
        self.tab.mouse.up()

    def area(self) -> dict[str, float]:
        """Where the stage is, all of it in view."""
        self.tab.locator("#stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
        return self.tab.locator("#stage").bounding_box()

    def paint(self, mask: np.ndarray, brush: int = 14) -> None:
        """Paint a mask by hand: strokes along the rows that it covers."""
        self.brush(brush)
        area = self.area()
        height, width = mask.shape
        step = max(1, round(0.8 * brush * height / area["height"]))
        reach = brush / 2 * width / area["width"]
        for row in range(step // 2, height, step):
            edges = np.flatnonzero(np.diff(np.pad(mask[row].astype(np.int8), 1)))
            for left, right in edges.reshape(-1, 2):
                if right - left > 2 * reach:
                    y = (row + 0.5) / height
                    self.stroke([((left + reach) / width, y), ((right - reach) / width, y)])

    def brush(self, size: int) -> None:
        self.tab.locator("#brush").evaluate(
            "(slider, size) => { slider.value = size; slider.dispatchEvent(new Event('input')); }",
            size,
        )

    def marked(self) -> str:
        return self.tab.locator("#editor-state").inner_text()

    def saved(self, button: str) -> bytes:
        """The file that pressing a button downloads."""
        with self.tab.expect_download() as download:
            self.tab.locator(button).first.click()
        return Path(download.value.path()).read_bytes()

    def mask(self) -> np.ndarray:
        """The mask in the editor, downloaded: bool [H,W]."""
        values = np.asarray(Image.open(io.BytesIO(self.saved("#mask-save"))).convert("L"))
        assert set(np.unique(values)) <= {0, 255}
        return values == 255

    def labels(self, index: int = 0) -> np.ndarray:
        """The label map of a result, downloaded: uint8 [H,W]."""
        button = f".result:nth-of-type({index + 1}) figcaption button:text('Mask')"
        image = Image.open(io.BytesIO(self.saved(button)))
        assert image.mode == "P"
        return np.asarray(image)

    def errors(self) -> str:
        self.tab.wait_for_selector("#errors .said")
        return self.tab.locator("#errors").inner_text()


def photograph(name: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """A photograph of the demo's, its path, pixels [H,W,3] and mask [H,W]."""
    path = PHOTOGRAPHS / name
    mask = np.asarray(Image.open(path.with_suffix(".png")).convert("1"))
    return path, np.asarray(Image.open(path).convert("RGB")), mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())
