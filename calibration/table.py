"""The calibration file: activation ranges as readable JSON, bound to the graphs they belong to."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from hsnet_trt.calibration.histogram import METHODS
from hsnet_trt.calibration.subject import Subject
from hsnet_trt.errors import InputError

FORMAT = 1
_LIMIT = 64 << 20  # bytes; larger files are refused


@dataclasses.dataclass(frozen=True)
class TensorRange:
    """The observed range of a tensor.

    Attributes:
        low, high: the extremes.
        values: number of values observed.
        thresholds: for each method, the |x| that 127 stands for.
    """

    low: float
    high: float
    values: int
    thresholds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class CalibrationTable:
    """The ranges of a model's graphs at one size.

    Attributes:
        weights_sha256, backbone: of the model.
        size: (height, width) of the network's input.
        lowering: of `match`; other lowerings have other tensors.
        graphs: name -> SHA-256 of the FP32 graphs that the tensors belong to.
        method: minmax, percentile or entropy: the threshold in use.
        data, episodes: the source of the episodes, and their number.
        made_by: the command.
        ranges: graph -> tensor -> range.
    """

    weights_sha256: str
    backbone: str
    size: tuple[int, int]
    lowering: str
    graphs: dict[str, str]
    method: str
    data: str
    episodes: int
    made_by: str
    ranges: dict[str, dict[str, TensorRange]]

    def thresholds(self, graph: str) -> dict[str, float]:
        """Tensor -> the |x| that 127 stands for, by the table's method."""
        return {name: r.thresholds[self.method] for name, r in self.ranges[graph].items()}

    def unsigned(self, graph: str) -> set[str]:
        """The tensors that were never negative."""
        return {name for name, r in self.ranges[graph].items() if r.low >= 0}

    def with_method(self, method: str) -> CalibrationTable:
        """The same ranges with another method selected.

        Raises:
            InputError: the method is unknown.
        """
        check_method(method)
        return dataclasses.replace(self, method=method)

    def to_json(self) -> str:
        """The table as JSON text: the facts about the model first, then a line for each tensor."""
        head = {name: getattr(self, name) for name in _HEAD}
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        graphs = []
        for graph, ranges in self.ranges.items():
            rows = [
                f"   {json.dumps(t)}: {json.dumps(dataclasses.asdict(r))}"
                for t, r in ranges.items()
            ]
            graphs.append(f"  {json.dumps(graph)}: {{\n" + ",\n".join(rows) + "\n  }")
        lines.append(' "ranges": {\n' + ",\n".join(graphs) + "\n }")
        return f'{{\n "calibration_format": {FORMAT},\n' + ",\n".join(lines) + "\n}\n"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> CalibrationTable:
        """Read a calibration file.

        Raises:
            InputError: the file cannot be read, or is not a calibration file.
        """
        try:
            if Path(path).stat().st_size > _LIMIT:
                raise ValueError("it is larger than any calibration file")
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            return _table(data)
        except OSError as error:
            raise InputError(
                f"the calibration file {path} cannot be read",
                found=error.strerror,
                fix="check the path, and who may read it",
            ) from error
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as error:
            raise InputError(
                f"{path} is not a calibration file of this version",
                expected="what `hsnet-trt calibrate` wrote",
                found=f"{type(error).__name__}: {error}",
                fix="calibrate again",
            ) from error

    def check(self, subject: Subject) -> None:
        """Refuse a table that belongs to other graphs than those of `subject`.

        Raises:
            InputError: other weights, another size, lowering or export.
        """
        model = subject.bundle.manifest.model
        if self.weights_sha256 != model.weights_sha256:
            raise InputError(
                "the calibration file is of another model",
                expected=f"{model.backbone} with weights {model.weights_sha256[:16]}",
                found=f"{self.backbone} with weights {self.weights_sha256[:16]}",
                fix="calibrate this model: ranges of other weights fit nothing here",
            )
        form = (subject.size, subject.files["match"].variant.lowering)
        if form != (self.size, self.lowering):
            raise InputError(
                "the calibration file is of another size or form",
                expected=f"{form[0][0]}x{form[0][1]} {form[1]}",
                found=f"{self.size[0]}x{self.size[1]} {self.lowering}",
                fix="calibrate at this size and lowering",
            )
        needed = {name: set(p.sources) for name, p in subject.placements.items()}
        held = {name: set(ranges) for name, ranges in self.ranges.items()}
        if needed != held or any(subject.hashes.get(g) != h for g, h in self.graphs.items()):
            raise InputError(
                "the calibration file is of another export of this model",
                expected=f"graphs {_short(subject.hashes, self.graphs)}",
                found=f"graphs {_short(self.graphs, self.graphs)}",
                fix="calibrate again: another release names or orders the tensors otherwise",
            )


_HEAD = [f.name for f in dataclasses.fields(CalibrationTable) if f.name != "ranges"]


def check_method(method: str) -> None:
    """Raise InputError if the method is unknown."""
    if method not in METHODS:
        raise InputError(
            "there is no such way to choose a range",
            expected=" | ".join(METHODS),
            found=repr(method),
        )


def _table(data: dict[str, Any]) -> CalibrationTable:
    if data["calibration_format"] != FORMAT:
        raise ValueError(f"format {data['calibration_format']}, not {FORMAT}")
    height, width = (int(extent) for extent in data["size"])
    head = {name: data[name] for name in _HEAD if name != "size"}
    ranges = {
        graph: {tensor: _range(**entry) for tensor, entry in tensors.items()}
        for graph, tensors in data["ranges"].items()
    }
    table = CalibrationTable(size=(height, width), ranges=ranges, **head)
    if table.method not in METHODS or not isinstance(table.graphs, dict):
        raise ValueError(f"method {table.method!r}")
    texts = (table.weights_sha256, table.backbone, table.lowering, *table.graphs.values())
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("names and hashes that are no text")
    return table


def _range(low: float, high: float, values: int, thresholds: dict[str, float]) -> TensorRange:
    chosen = {method: float(thresholds[method]) for method in METHODS}
    if not all(math.isfinite(t) and t > 0 for t in chosen.values()):
        raise ValueError(f"thresholds {thresholds}, which are not all positive numbers")
    return TensorRange(float(low), float(high), int(values), chosen)


def _short(hashes: dict[str, str], names: dict[str, str]) -> str:
    return ", ".join(f"{name} {hashes[name][:12]}" for name in names if name in hashes)
