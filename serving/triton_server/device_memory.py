"""GPU memory as a tensor for Triton's Python backend, through DLPack.

DLPack (`dlpack.h`, version 0.x, which the backend reads) is a C struct in a capsule named
"dltensor". The consumer renames the capsule, and calls the struct's deleter when done.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

CPU, CUDA = 1, 2  # DLDeviceType
_KINDS = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode
_NAME = b"dltensor"

# Our own prototypes: setting those of `ctypes.pythonapi` would affect other code.
_make_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))
_is_named = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_content = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_held: dict[int, tuple[_Managed, Any, Any]] = {}  # keeps exported tensors alive, by number
_numbers = itertools.count(1)


def _let_go(managed: int) -> None:
    context = _Managed.from_address(managed).context
    if context is not None:
        _held.pop(context, None)


def _capsule_ends(capsule: int) -> None:
    """Capsule destructor: frees the tensor unless a consumer took it and renamed the capsule."""
    if _is_named(capsule, _NAME):
        _let_go(_content(capsule, _NAME))


_deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_let_go)
_destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_capsule_ends)


class DeviceArray:
    """An array in a device's memory, for `from_dlpack`; freed with its last reference.

    Args:
        address: device address of the first element.
        shape, dtype: of the array, which is C-contiguous.
        device: DLPack's device type, and the device's number.
        free: frees the memory; called once, when neither this nor any tensor of it is left.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        device: tuple[int, int],
        free: Callable[[], None],
    ) -> None:
        self._address, self._shape, self._dtype = address, shape, np.dtype(dtype)
        self._device = device
        weakref.finalize(self, free).atexit = False  # the memory ends with the process

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type, and the device's number."""
        return self._device

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        """A capsule. The content is complete, so `stream` is ignored."""
        shape = (ctypes.c_int64 * len(self._shape))(*self._shape)
        tensor = _Tensor(
            self._address,
            *self._device,
            len(self._shape),
            _KINDS[self._dtype.kind],
            8 * self._dtype.itemsize,
            1,
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            None,
            0,
        )
        number = next(_numbers)
        managed = _Managed(tensor, number, ctypes.cast(_deleter, ctypes.c_void_p))
        _held[number] = (managed, shape, self)
        return _make_capsule(
            ctypes.addressof(managed), _NAME, ctypes.cast(_destructor, ctypes.c_void_p)
        )
