"""Plugins that a bundle's engines need: loaded only if the manifest vouches for their file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.trt_plugins.loading import load_plugin


def load_plugins(bundle: Bundle, engines: Iterable[EngineFile], trt: Any) -> None:
    """Give TensorRT what the engines need, before any of them is deserialised.

    Args:
        bundle: where the plugins' files are.
        engines: those that are to run.
        trt: the module `tensorrt` or `tensorrt_rtx`.

    Raises:
        BundleError: the manifest does not know a plugin's file, or the file was altered; nothing of
            it is loaded.
        BackendError: TensorRT refuses a plugin.
    """
    for name in dict.fromkeys(engine.plugin for engine in engines):
        if name is not None:
            load_plugin(trt, name, bundle.read(name))
