"""Read weights without running code from the file: PyTorch's own format, and safetensors."""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.errors import CheckpointError
from hsnet_trt.files import replacing

_WEIGHTS_ALONE = (
    "where it was made, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
)
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
# What PyTorch's reader raises on damaged pickles and archives.
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    AssertionError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def write_weights_file(content: dict[str, Any], path: Path) -> None:
    """Write tensors in plain containers; an existing file is replaced only after a complete write.

    Missing folders are made.

    Raises:
        CheckpointError: the file could not be written, for example because the disk is full. No
            partial file is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            torch.save(content, scratch)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError on a full disk
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} could not be written",
            found=reason,
            fix="free some space, or choose another place; see who may write there",
        ) from error


def read_weights_file(path: Path) -> Any:
    """The content of a checkpoint: tensors on the CPU, in plain containers.

    Args:
        path: what `torch.save` wrote, or a `.safetensors` file.

    Raises:
        CheckpointError: the file is missing, damaged, or not readable without running code.
    """
    if not path.exists():
        raise CheckpointError(
            f"there is no checkpoint at {path}",
            expected="a file that torch.save wrote, .safetensors, or 'shipped'",
            fix="check the path, or take 'shipped', the model that comes with the package",
        )
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder",
            expected="a checkpoint: a file that torch.save wrote, or .safetensors",
            fix="name the file in it",
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about TorchScript archives
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise _refusal(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs a library that is not installed",
            expected="safetensors",
            fix="pip install 'hsnet-trt[export]', or safetensors alone",
        ) from error
    try:
        return load(path.read_bytes())
    except (SafetensorError, *_DAMAGE) as error:
        raise _damaged(path, "a whole safetensors file", error) from error


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """The error to report; PyTorch's own text suggests switching its safeguard off."""
    message = str(error)
    if "TorchScript" in message:
        return CheckpointError(
            f"{path} is a TorchScript archive: a program, not weights",
            expected="a state_dict (torch.save of tensors in dicts)",
            fix=_WEIGHTS_ALONE,
        )
    if found := _GLOBAL.search(message):
        return CheckpointError(
            f"{path} is not a checkpoint of plain tensors: reading it could run code, "
            "which is never done",
            expected="tensors, numbers and strings in dicts and lists",
            found=f"a pickled {found[1]}",
            fix=_WEIGHTS_ALONE,
        )
    if isinstance(error, pickle.UnpicklingError):
        return CheckpointError(
            f"{path} is not a checkpoint of plain tensors",
            expected="a state_dict (torch.save of tensors in dicts)",
            found="a damaged file, or a pickle that cannot be read without running code",
            fix=f"copy or download it again; else, {_WEIGHTS_ALONE}",
        )
    return _damaged(path, "a whole PyTorch checkpoint", error)


def _damaged(path: Path, expected: str, error: Exception) -> CheckpointError:
    size = os.path.getsize(path) if path.is_file() else None
    # The text of these errors is only a byte or a key.
    words = "" if isinstance(error, (LookupError, pickle.UnpicklingError)) else str(error)
    reason = words.partition("\n")[0][:200] or "no PyTorch checkpoint"
    return CheckpointError(
        f"{path} cannot be read",
        expected=expected,
        found="no file" if size is None else f"{size} bytes: {reason}",
        fix="copy or download it again: it is cut off, damaged or another kind of file",
    )
