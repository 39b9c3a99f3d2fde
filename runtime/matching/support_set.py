"""Encoded supports by class, and their file, which is tied to weights, size and preprocessing."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hsnet_trt.errors import BundleError, InputError
from hsnet_trt.runtime.bundle.manifest import Manifest
from hsnet_trt.runtime.bundle.scratch import scratch_folder
from hsnet_trt.runtime.matching.graphs import SUPPORTS
from hsnet_trt.runtime.matching.packing import CONTRASTS, Columns, Shot
from hsnet_trt.trt_plugins.sizes import row_length

_FORMAT = "hsnet-trt supports"
_VERSION = 2
_AGAIN = "encode the supports again with set_support"
_MOST_HEADER, _NPY_HEADER = 16 << 20, 4096  # bytes
_HALVES = re.compile("[\ud800-\udfff]")
MOST_CLASSES = 255  # labels are uint8, 0 is background


@dataclass(frozen=True)
class Origin:
    """The network and preprocessing that made encodings; equal origins match, at any precision."""

    backbone: str
    weights_sha256: str
    size: tuple[int, int]  # height, width of the network's input
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # Layers, channels, positions of s2, s3, s4, and of c3, c4 with a background contrast.
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, manifest: Manifest, size: tuple[int, int]) -> Origin:
        """The origin of supports that a bundle encodes at that size.

        Raises:
            BundleError: the bundle has no match graph of that size, or none with the vectors of its
                background contrast.
        """
        match = [
            g for g in manifest.graphs if g.variant.graph == "match" and g.variant.size == size
        ]
        if not match:
            raise BundleError(
                f"the bundle describes no match graph of {size}", fix="export it again"
            )
        # From the query's inputs, since a packed `match` takes supports of other shapes.
        shapes: list[tuple[Any, ...]] = [
            (spec.shape[1], spec.shape[2], height * width)
            for spec, (height, width) in zip(match[0].inputs[:3], match[0].grids, strict=True)
        ]
        if manifest.model.contrast:
            vectors = {spec.name: spec.shape[1:] for spec in match[0].inputs[3:]}
            shapes += [vectors.get(name, ()) for name in CONTRASTS]
            if any(len(s) != 3 or any(isinstance(n, str) for n in s) for s in shapes):
                raise BundleError(
                    "the bundle's match graph takes no vectors of a background contrast",
                    expected=f"inputs {' and '.join(CONTRASTS)} of shapes like [S, 1, 1024, 1]",
                    found=[(spec.name, *spec.shape) for spec in match[0].inputs],
                    fix="export the bundle again",
                )
        return cls(
            manifest.model.backbone,
            manifest.model.weights_sha256,
            size,
            manifest.preprocessing.resize,
            manifest.preprocessing.mean,
            manifest.preprocessing.std,
            tuple(tuple(int(n) for n in shape) for shape in shapes),
        )


@dataclass(frozen=True)
class SupportSet:
    """Classes with their encoded shots; adding or removing a class returns a new set.

    `classes` maps a name to its K shots, each of which holds only the columns under its mask.
    """

    classes: Mapping[str, list[Shot]] = dataclasses.field(default_factory=dict)

    def with_class(self, name: str, shots: list[Shot]) -> SupportSet:
        """The set with that class added, or replaced in its place."""
        return SupportSet({**self.classes, name: shots})

    def without(self, name: str) -> SupportSet:
        """The set with that class removed.

        Raises:
            InputError: there is no class of that name.
        """
        if name not in self.classes:
            known = list(self.classes)
            raise InputError(
                f"there is no class {name!r}",
                expected=f"one of {known}" if known else None,
                found=None if known else "no classes at all",
            )
        return SupportSet({n: shots for n, shots in self.classes.items() if n != name})

    @property
    def shots(self) -> list[int]:
        """How many shots each class has, in order."""
        return [len(shots) for shots in self.classes.values()]

    @property
    def counts(self) -> dict[str, int]:
        """How many shots each class has, by name."""
        return {name: len(shots) for name, shots in self.classes.items()}

    def __iter__(self) -> Iterator[Shot]:
        """All shots, class after class."""
        for shots in self.classes.values():
            yield from shots

    def save(self, path: str | os.PathLike[str], origin: Origin) -> None:
        """Write the set as `.npz`; an existing file is kept if writing fails.

        Raises:
            InputError: the file cannot be written.
        """
        target = Path(path)
        try:
            with scratch_folder(target.absolute()) as scratch:
                written = scratch / "supports.npz"
                with written.open("wb") as stream:
                    self.write(stream, origin)
                os.replace(written, target)
        except OSError as error:
            raise InputError(
                f"the support set cannot be written to {target}",
                found=error.strerror,
                fix="choose a path in a folder that exists and can be written",
            ) from error

    def write(self, stream: IO[bytes], origin: Origin) -> None:
        """Write the set's `.npz`: a header, and per shot and level the columns under the mask."""
        classes = [{"name": n, "shots": k} for n, k in zip(self.classes, self.shots, strict=True)]
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "origin": dataclasses.asdict(origin),
            "classes": classes,
        }
        arrays: dict[str, npt.NDArray[Any]] = {"header": np.array(json.dumps(header))}
        for index, shots in enumerate(self.classes.values()):
            for number, shot in enumerate(shots):
                for level, columns in shot.items():
                    name = f"{index}_{number}_{level}"
                    arrays[f"{name}_columns"] = columns.at.astype(np.int32)
                    arrays[name] = columns.values.transpose(0, 2, 1)
        np.savez(stream, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, source: str | os.PathLike[str] | IO[bytes], origin: Origin) -> SupportSet:
        """Read a set of the same origin from a file or stream.

        Raises:
            InputError: the file is missing, damaged or no support set, or another model, size or
                preprocessing made it.
        """
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "what was sent"
        try:
            with np.load(source, allow_pickle=False) as archive:
                header = json.loads(str(_array(archive, "header", _MOST_HEADER)[()]))
                _check_header(header, origin, path)
                classes = {
                    entry["name"]: _read_class(archive, index, entry["shots"], origin)
                    for index, entry in enumerate(header["classes"])
                }
        except FileNotFoundError as error:
            raise InputError(
                f"there is no support set at {path}",
                expected="a .npz that segment --save-supports or save_supports wrote",
                fix="check the path",
            ) from error
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            zipfile.BadZipFile,
            AttributeError,
            NotImplementedError,
            MemoryError,
            RecursionError,
            OverflowError,
        ) as error:
            raise InputError(
                f"{path} is not a support set, or is damaged",
                expected="a .npz that save_supports wrote",
                found="a file that is no .npz" if "allow_pickle" in str(error) else error,
                fix=f"save it again, or {_AGAIN}",
            ) from error
        return cls(classes)


def _check_header(header: dict[str, Any], origin: Origin, path: str) -> None:
    if header["format"] != _FORMAT:
        raise ValueError(f"format {header['format']!r}")
    if header["version"] != _VERSION:
        raise InputError(
            f"the support set {path} has another format version",
            expected=_VERSION,
            found=header["version"],
            fix="upgrade hsnet-trt" if _is_newer(header["version"]) else _AGAIN,
        )
    expected = json.loads(json.dumps(dataclasses.asdict(origin)))
    differing = [key for key in expected if header["origin"].get(key) != expected[key]]
    if differing:
        raise InputError(
            f"the support set {path} was encoded by another model or for another input",
            expected=", ".join(f"{key} {expected[key]}" for key in differing),
            found=", ".join(f"{key} {header['origin'].get(key)}" for key in differing),
            fix=f"{_AGAIN}, or load the bundle that made them",
        )
    names = [entry["name"] for entry in header["classes"]]
    if len(set(names)) != len(names) or len(names) > MOST_CLASSES or not all(map(_is_name, names)):
        raise ValueError("its class names")


def _read_class(archive: Any, index: int, shots: int, origin: Origin) -> list[Shot]:
    if type(shots) is not int or shots < 1:
        raise ValueError(f"{shots} shots")
    return [_read_shot(archive, f"{index}_{number}", origin) for number in range(shots)]


def _read_shot(archive: Any, name: str, origin: Origin) -> Shot:
    shot: Shot = {}
    names = (*SUPPORTS, *CONTRASTS)[: len(origin.shapes)]
    for level, (layers, channels, positions) in zip(names, origin.shapes, strict=True):
        at = _array(archive, f"{name}_{level}_columns", 8 * positions)
        values = _array(archive, f"{name}_{level}", 8 * layers * channels * positions)
        if values.shape != (layers, channels, len(at)) or values.dtype.kind != "f":
            raise ValueError(f"{level} of {name} has shape {values.shape}, {values.dtype}")
        ascending = at.ndim == 1 and at.dtype.kind == "i" and bool((np.diff(at) > 0).all())
        inside = not len(at) or (at[0] >= 0 and at[-1] < positions)
        if not (ascending and inside and np.isfinite(values).all()):
            raise ValueError(f"{level} of {name} holds impossible values")
        values = np.ascontiguousarray(values.transpose(0, 2, 1))
        row = positions if level in CONTRASTS else row_length(positions)
        shot[level] = Columns(at.astype(np.int64), values, row)
    return shot


def _array(archive: Any, name: str, most: int) -> npt.NDArray[Any]:
    """An array of the file, of at most so many bytes: some kilobytes may unpack to gigabytes."""
    size = archive.zip.getinfo(f"{name}.npy").file_size
    if size > most + _NPY_HEADER:
        raise ValueError(f"{name} has {size} bytes")
    found: npt.NDArray[Any] = archive[name]
    return found


def _is_newer(version: object) -> bool:
    return isinstance(version, int) and version > _VERSION


def _is_name(name: object) -> bool:
    # Half a character of UTF-16, as JSON may hold, cannot be sent or written.
    return isinstance(name, str) and bool(name.strip()) and not _HALVES.search(name)


def check_name(name: object) -> str:
    """Return a class name after checking that it is text and not blank.

    Raises:
        InputError: it is not.
    """
    if not _is_name(name):
        raise InputError(
            "a class needs a name", expected='text in UTF-8, as "mug"', found=repr(name)
        )
    return str(name)
