"""One network, many support sets: what the page's server asks of a bundle."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.backends import open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.matching.encode import encode_parts
from hsnet_trt.runtime.matching.graphs import Runner
from hsnet_trt.runtime.matching.packing import Shot, compress
from hsnet_trt.runtime.matching.support_set import Origin, SupportSet
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.masks import Mask
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pipeline import CpuPath, GpuPath


@dataclass(frozen=True)
class ReadySet:
    """A support set, arranged for `match`; belongs to the network that arranged it."""

    supports: SupportSet
    arranged: Any
    bytes: int


class Network:
    """A bundle's network without supports of its own; may be used from several threads."""

    def __init__(self, bundle: Bundle, runner: Runner, size: tuple[int, int], reason: str) -> None:
        """Use `Network.load`."""
        self.bundle, self.runner, self.size, self.reason = bundle, runner, size, reason
        self._preprocessing = bundle.manifest.preprocessing
        self._origin = Origin.of(bundle.manifest, size)
        # What a shot takes at most: a mask over the whole picture.
        self.shot_bytes = 4 * sum(int(np.prod(shape)) for shape in self._origin.shapes)
        self._cpu = CpuPath(runner, size, self._preprocessing)
        self._gpu = None if runner.frames is None else GpuPath(runner.frames)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str = "auto",
        size: int | tuple[int, int] | None = None,
        sha256: str | None = None,
        precision: str | None = None,
    ) -> Network:
        """Open a bundle, as `FewShotSegmenter.load` does, and with its errors."""
        bundle = Bundle.open(path, sha256=sha256)
        chosen = bundle.size(size)
        runner, reason = open_runner(bundle, chosen, backend, precision)
        return cls(bundle, runner, chosen, reason)

    def encode(self, pixels: Pixels, mask: Mask) -> tuple[Shot, list[str]]:
        """Encode one support.

        Args:
            pixels: uint8 [H,W,3], RGB.
            mask: bool [H,W], the object.

        Returns:
            The shot, and warnings in words.

        Raises:
            InputError: the mask is empty, or too small for the network's input.
            BackendError: the backend failed.
        """
        pairs: list[tuple[Any, Any]] = [(pixels, mask)]
        parts = encode_parts(self.runner, "object", pairs, self.size, self._preprocessing)
        shot = compress(next(iter(parts)))[0]
        notes = []
        if mask.all():
            notes.append("the mask covers the whole picture: nothing tells object from background")
        vanished = [level[1] for level, columns in shot.items() if not len(columns.at)]
        if vanished:
            notes.append(
                f"the mask is so small that it vanishes at feature level {', '.join(vanished)}: "
                "crop the photograph closer to the object"
            )
        return shot, notes

    def most_bytes(self, classes: Mapping[str, list[Shot]]) -> int:
        """What `arrange` will take at most."""
        if self._gpu is None and self.runner.packing:
            # Windows of each column, eight bytes an index: far less than the columns.
            return sum(2 * shot_bytes(shot) for shots in classes.values() for shot in shots)
        return self.shot_bytes * sum(map(len, classes.values()))

    def arrange(self, classes: Mapping[str, list[Shot]]) -> ReadySet:
        """Make shots, by class, ready to be matched."""
        # Copied lists: arranging puts views of the packed columns into them.
        supports = SupportSet({name: list(shots) for name, shots in classes.items()})
        arranged = (self._cpu if self._gpu is None else self._gpu).arrange(supports)
        calls = arranged if isinstance(arranged, list) else [arranged]
        taken = sum(array.nbytes for call in calls for array in call.values())
        return ReadySet(supports, arranged, taken)

    def segment(self, pixels: Pixels, ready: ReadySet) -> Segmentation:
        """Segment one query, uint8 [H,W,3] RGB.

        Raises:
            BackendError: the backend failed.
        """
        if self._gpu is not None:
            return self._gpu.segment_all([pixels], ready.supports, ready.arranged)[0]
        return self._cpu.segment_chunk([pixels], ready.supports, ready.arranged)[0]

    def save(self, supports: SupportSet) -> bytes:
        """The content of the `.npz` that `FewShotSegmenter.load_supports` reads."""
        stream = io.BytesIO()
        supports.write(stream, self._origin)
        return stream.getvalue()

    def read_supports(self, content: bytes) -> dict[str, list[Shot]]:
        """The shots by class of such a file.

        Raises:
            InputError: not such a file, damaged, or made by another model, at another size or with
                another preprocessing.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                # They are stored as they are: what would unpack to more is no such file.
                unpacked = sum(member.file_size for member in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise _no_supports(error) from error
        if unpacked > len(content):
            raise _no_supports(f"{len(content)} bytes that unpack to {unpacked}")
        return dict(SupportSet.load(io.BytesIO(content), self._origin).classes)

    def close(self) -> None:
        """Free the network."""
        self.runner.close()


def shot_bytes(shot: Shot) -> int:
    """What an encoded shot takes in memory."""
    return sum(columns.values.nbytes + columns.at.nbytes for columns in shot.values())


def _no_supports(found: object) -> InputError:
    return InputError(
        "what was sent is not a support set, or is damaged",
        expected="a .npz that this page or save_supports wrote",
        found=found,
        fix="save it again, or show the photographs and masks again",
    )
