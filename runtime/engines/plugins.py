"""Loading the plugins that a bundle's engines need, after checking their hashes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.trt_plugins.loading import load_plugin


def load_plugins(bundle: Bundle, engines: Iterable[EngineFile], trt: Any) -> None:
    """Register the engines' plugins with TensorRT; call it before deserialising the engines.

    Args:
        bundle: holds the plugins' files.
        engines: the engines to run.
        trt: the module `tensorrt` or `tensorrt_rtx`.

    Raises:
        BundleError: a plugin's file is not in the manifest, or was altered; it is not loaded.
        BackendError: TensorRT refuses a plugin.
    """
    for name in dict.fromkeys(engine.plugin for engine in engines):
        if name is not None:
            load_plugin(trt, name, bundle.read(name))
