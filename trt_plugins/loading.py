"""Register the correlation op with TensorRT, from the verified content of a plugin's file."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.trt_plugins import python_plugin
from hsnet_trt.trt_plugins.nvcc import is_fatbin
from hsnet_trt.trt_plugins.sizes import DOMAIN, OP

LIBRARY_NAME = "libhsnet_correlation.so"
# Where `make plugin` writes the library in a source tree.
BUILT_LIBRARY = Path(__file__).resolve().parents[1] / "build" / "plugin" / LIBRARY_NAME

_ELF = b"\x7fELF"
_loaded: set[str] = set()  # names of the TensorRT modules that have the op
_lock = threading.Lock()


def is_library(content: bytes) -> bool:
    """Whether a file's content is a shared library."""
    return content.startswith(_ELF)


def check_plugin(name: str, content: bytes) -> None:
    """Check that a file's content is a plugin, by its first bytes.

    Raises:
        InputError: it is neither a library nor compiled kernels.
    """
    if not is_library(content) and not is_fatbin(content):
        raise InputError(
            f"{name} is not a plugin of {DOMAIN}::{OP}",
            expected=f"{LIBRARY_NAME}, or correlation.fatbin",
            found=f"{len(content)} bytes that begin with {content[:4]!r}",
            fix="make both with `make plugin`",
        )


def load_plugin(trt: Any, name: str, content: bytes) -> None:
    """Register the op with TensorRT, once per TensorRT module and process; later calls do nothing.

    (All plugins of the op's version run each other's engines, so the first one will do.) A library
    is loaded from a private copy, since its own file may change after it was checked.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        name: the file's name, for errors.
        content: the file's content: native code, so the caller must have verified it.

    Raises:
        BackendError: TensorRT refuses it.
        InputError: it is not a plugin.
    """
    check_plugin(name, content)
    with _lock:
        if trt.__name__ in _loaded:
            return
        if is_library(content):
            _load_library(trt, name, content)
        else:
            python_plugin.register(trt, content)
        _loaded.add(trt.__name__)


def _load_library(trt: Any, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as folder:  # accessible to this user only
        copy = Path(folder, LIBRARY_NAME)
        copy.write_bytes(content)
        handle = trt.get_plugin_registry().load_library(str(copy))
    if handle is None:
        raise BackendError(
            f"{trt.__name__} {trt.__version__} cannot load the plugin {name}",
            expected="a library built for this machine, in a folder that may run programs",
            found=tempfile.gettempdir(),
            fix="build it here with `make plugin`; if the folder is mounted noexec, set TMPDIR",
        )
