"""The page's shots: encoding, memory estimates, arranging, reading a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.matching.support_set import SupportSet
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.images import Pixels
from hsnet_trt.runtime.pictures.masks import Mask
from hsnet_trt.runtime.pipeline import ArrangedSupports


def encode_shot(network: Network, pixels: Pixels, mask: Mask) -> tuple[Shot, list[str]]:
    """Encode one support.

    Args:
        network: encodes the shot.
        pixels: uint8 [H,W,3], RGB.
        mask: bool [H,W], the object.

    Returns:
        The shot, and warnings in words.

    Raises:
        InputError: the mask is empty, or too small for the network's input.
        BackendError: the backend failed.
    """
    shot = network.encode("object", [pixels], [mask])[0]
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


def most_bytes(network: Network, classes: Mapping[str, list[Shot]]) -> int:
    """The bytes that `arrange` takes at most."""
    if network.runner.frames is None and network.runner.packing:
        # Twice the columns: window indices, at 8 bytes each, take far less than the columns.
        return sum(2 * shot_bytes(shot) for shots in classes.values() for shot in shots)
    return network.shot_bytes * sum(map(len, classes.values()))


def arrange(network: Network, classes: Mapping[str, list[Shot]]) -> ArrangedSupports:
    """Arrange shots, by class, for matching; `classes` is not changed."""
    # Lists are copied, because arranging replaces their shots with views of the packed columns.
    copies = {name: list(shots) for name, shots in classes.items()}
    return network.pipeline.arrange(SupportSet(copies))


def read_supports(network: Network, content: bytes) -> dict[str, list[Shot]]:
    """The shots, by class, of a file that `FewShotSegmenter.save_supports` or the page wrote.

    Raises:
        InputError: not such a file, damaged, or of another model, size or preprocessing.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Support sets are not compressed, so a file that unpacks to more is refused.
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _no_supports(error) from error
    if unpacked > len(content):
        raise _no_supports(f"{len(content)} bytes that unpack to {unpacked}")
    return dict(SupportSet.load(io.BytesIO(content), network.origin).classes)


def shot_bytes(shot: Shot) -> int:
    """The bytes of an encoded shot."""
    return sum(columns.values.nbytes + columns.at.nbytes for columns in shot.values())


def _no_supports(found: object) -> InputError:
    return InputError(
        "what was sent is not a support set, or is damaged",
        expected="a .npz that this page or save_supports wrote",
        found=found,
        fix="save it again, or show the photographs and masks again",
    )
