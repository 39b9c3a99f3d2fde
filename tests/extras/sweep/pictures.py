"""Pictures to sweep, and what a sweep of them must have written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

from hsnet_trt import FewShotSegmenter

PLAN = {"bundle_sha256": "a", "supports_sha256": "b", "size": (96, 128), "precision": None}


def picture(number: int) -> np.ndarray:
    """Of every four: a red box, a green one, both, and none."""
    rng = np.random.default_rng(number)
    top, left = (int(n) for n in rng.integers(0, 40, 2))
    boxes = [
        (RED, (slice(top, top + 40), slice(left, left + 60))),
        (GREEN, (slice(top + 20, top + 60), slice(left + 70, left + 100))),
    ]
    shown = [boxes[:1], boxes[1:], boxes, []][number % 4]
    return scene((100 + number % 7, 140 + number % 5), shown)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, count: int) -> None:
    """Pictures, and three files that are none."""
    (folder / "below").mkdir(parents=True)
    for number in range(count):
        place = folder / "below" if number % 3 else folder
        (place / f"{number:04d}.png").write_bytes(png(picture(number)))
    (folder / "0001_bad.jpg").write_bytes(b"nonsense")
    (folder / "0002_cut.png").write_bytes(png(picture(1))[:100])
    (folder / "0003_empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")


def read(out: Path | str, table: str) -> list[dict]:
    from pyarrow import parquet

    return parquet.read_table(f"{out}/{table}").to_pylist()


def check(out: Path, local: FewShotSegmenter, count: int) -> None:
    """Every image once, good or bad; and every object as a segmenter finds it."""
    from pycocotools import mask as coco

    good, bad = [row["path"] for row in read(out, "images")], read(out, "errors")
    assert len(good) == len(set(good)) == count
    assert sorted(Path(row["path"]).name for row in bad) == [
        "0001_bad.jpg",
        "0002_cut.png",
        "0003_empty.png",
    ]
    assert all("the image" in row["error"] and "expected" in row["error"] for row in bad)
    found = {(row["path"], row["class"]): row for row in read(out, "found")}
    assert len(found) == len(read(out, "found"))
    sizes = {
        row["path"]: (row["height"], row["width"], row["found"]) for row in read(out, "images")
    }
    for path in good:
        result = local.segment(path)
        wanted = {name for name in result.classes if result.masks[name].any()}
        assert sizes[path] == (*result.labels.shape, len(wanted))
        assert {name for p, name in found if p == path} == wanted
        for name in wanted:
            row, mask = found[path, name], result.masks[name]
            decoded = coco.decode({**row["mask"], "counts": row["mask"]["counts"].encode()})
            np.testing.assert_array_equal(decoded.astype(bool), mask)
            assert row["area"] == mask.sum()
            x, y, width, height = row["box"]
            outside = mask.copy()
            outside[y : y + height, x : x + width] = False
            assert not outside.any()
            for edge in (mask[y], mask[y + height - 1], mask[:, x], mask[:, x + width - 1]):
                assert edge.any()
            assert row["score"] == pytest.approx(result.scores[name][mask].mean(), abs=1e-5)
