"""Child process: read damaged files one after another and write down what came of each.

    python read_mutated.py KIND SOURCE WORK FIRST COUNT

prints two JSON lines a file: its seed, then also "read", "refused" or "bare", and why it is bare. A
file that ends the process ends it behind the first, so that the parent knows which it was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from helpers.mutations import Change, change_bundle, change_npz, change_text, on_file

from hsnet_trt.errors import HSNetError

IMAGE = np.full((96, 128, 3), 90, np.uint8)
MASK = np.zeros((96, 128), bool)
MASK[20:60, 30:90] = True


def read_bundle(folder: Path, source: Path) -> None:
    from hsnet_trt.runtime.segmenter import FewShotSegmenter
    from hsnet_trt.runtime.verify import verify_bundle

    with FewShotSegmenter.load(folder, "onnxruntime") as segmenter:
        segmenter.set_support("mug", IMAGE, MASK)
        segmenter.segment(IMAGE)
    verify_bundle(folder, "onnxruntime")


def read_supports(folder: Path, source: Path) -> None:
    segmenter = _segmenter(source)
    segmenter.clear()
    segmenter.load_supports(folder / "supports.npz")
    segmenter.segment(IMAGE)


def read_table(folder: Path, source: Path) -> None:
    from hsnet_trt.calibration.table import CalibrationTable

    table = CalibrationTable.read(folder / "ranges.json")
    for graph in table.ranges:
        table.thresholds(graph), table.unsigned(graph)
    CalibrationTable.read(folder / "ranges.json").to_json()


def read_label_files(folder: Path, source: Path) -> None:
    from hsnet_trt.data.labels.labels import read_labels

    for name in ("labelme.json", "coco.json"):
        read_labels([folder / name])


KINDS: dict[str, tuple[Change, Callable[[Path, Path], None]]] = {
    "bundle": (change_bundle, read_bundle),
    "supports": (on_file(change_npz, "supports.npz"), read_supports),
    "table": (on_file(change_text, "ranges.json"), read_table),
    "labelme": (on_file(change_text, "labelme.json"), read_label_files),
    "coco": (on_file(change_text, "coco.json"), read_label_files),
}
_opened: dict[Path, Any] = {}


def _segmenter(source: Path) -> Any:
    from hsnet_trt.runtime.segmenter import FewShotSegmenter

    if source not in _opened:
        _opened[source] = FewShotSegmenter.load(source.parent / "bundle", "onnxruntime")
    return _opened[source]


class Watch:
    """What Python opens, renames, removes or makes while it is on, outside of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = str(folder.resolve()), False
        self.outside: list[str] = []
        # Code may be loaded lazily; that is no reading of data.
        places = {sys.prefix, sys.base_prefix, *(p for p in sys.path if p), os.getcwd()}
        self.code = (*map(os.path.realpath, places), "/proc/", "/sys/", "/dev/")
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        named = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink")
        if not self.on or event not in named or isinstance(arguments[0], int):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        writes = event != "open" or any(c in str(arguments[1] or "r") for c in "wax+")
        if not path.startswith(self.folder) and (writes or not path.startswith(self.code)):
            self.outside.append(f"{event} {path}")


def main() -> None:
    kind, source, work, first, count = sys.argv[1:]
    change, read = KINDS[kind]
    place = Path(work, "place")
    watch = Watch(place)
    warnings.simplefilter("ignore")
    shutil.copytree(source, place, dirs_exist_ok=True)
    read(place, Path(source))  # whole, and what is loaded lazily is loaded
    for seed in range(int(first), int(first) + int(count)):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
        rng = random.Random(f"{kind} {seed}")
        change(rng, place)
        print(json.dumps({"seed": seed}), flush=True)
        result: dict[str, Any] = {"seed": seed, "came": "read"}
        try:
            watch.on = True
            read(place, Path(source))
        except HSNetError as error:
            result["came"] = "refused"
            if not (error.summary and (error.expected or error.found or error.fix)):
                result |= {"came": "bare", "why": f"no details: {error}"}
        except BaseException as error:  # noqa: BLE001 (that is what is looked for)
            result |= {"came": "bare", "why": f"{type(error).__name__}: {error}"[:300]}
        finally:
            watch.on = False
        if watch.outside:
            result |= {"came": "bare", "why": f"outside: {watch.outside[:3]}"}
            watch.outside.clear()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
