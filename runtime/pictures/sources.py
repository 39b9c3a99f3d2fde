"""The forms in which a picture or mask may be given: paths, open files, arrays of any library."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from hsnet_trt.errors import InputError

# An array is anything on the host with `__array__` or `__dlpack__`: NumPy's, PyTorch's, and so on.
ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | npt.NDArray[Any]"
)


def is_encoded(source: object) -> bool:
    """Whether `source` is an image file: a path, a file's content, or a file object."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or is_open(source)


def is_open(source: object) -> bool:
    """Whether `source` is a file object: an open file, a BytesIO, an upload."""
    return callable(getattr(source, "read", None)) and not isinstance(source, (Image.Image, Path))


def file_of(source: Any, what: str) -> str | os.PathLike[str] | bytes:
    """The path or the content of an image file. A file object is read from its beginning.

    Raises:
        InputError: a file object does not return bytes or cannot be read.
    """
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if not is_open(source):
        return source  # type: ignore[no-any-return]
    if inspect.iscoroutinefunction(source.read) and hasattr(source, "file"):
        source = source.file  # an upload of Starlette or FastAPI
    try:
        if getattr(source, "seekable", lambda: False)():
            source.seek(0)
        content = source.read()
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{what} cannot be read from its file object", expected="an open file", found=error
        ) from error
    if not isinstance(content, bytes):
        if inspect.iscoroutine(content):
            content.close()
        raise InputError(
            f"{what} is not read as bytes",
            expected="a file opened in binary mode",
            found=f"{type(content).__name__} from {type(source).__name__}.read()",
            fix='open it with open(path, "rb")',
        )
    return content


def is_array(source: object) -> bool:
    """Whether `source` is an array of NumPy or another library."""
    return hasattr(source, "__array__") or hasattr(source, "__dlpack__")


def as_array(source: Any, what: str, expected: str) -> npt.NDArray[Any]:
    """The array or nested list as a NumPy array, without a copy where possible.

    Raises:
        InputError: it is neither, or lies in memory that NumPy cannot read, as on a GPU.
    """
    try:
        if hasattr(source, "__dlpack__") and not hasattr(source, "__array__"):
            return np.from_dlpack(source)
        return np.asarray(source)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise InputError(
            f"{what} is not an array that can be read",
            expected=expected,
            found=f"{type(source).__name__}: {str(error).partition(chr(10))[0][:200]}",
            fix="bring it to the host as NumPy's: tensor.detach().cpu().numpy()"
            if is_array(source)
            else "give numbers in rows of one length",
        ) from error
