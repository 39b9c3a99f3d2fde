"""HSNet-TRT: few-shot segmentation with HSNet, from a PyTorch checkpoint to TensorRT engines.

The public names are loaded when they are first used, so importing this package costs nothing and
brings neither torch nor TensorRT.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsnet_trt.errors import HSNetError, HSNetWarning
    from hsnet_trt.runtime.cameras.source import open_source
    from hsnet_trt.runtime.pictures.result import Segmentation
    from hsnet_trt.runtime.segmenter import FewShotSegmenter
    from hsnet_trt.runtime.video.memory import Memory
    from hsnet_trt.runtime.video.tracker import Tracker

__version__ = "0.1.0"

__all__ = [
    "FewShotSegmenter",
    "HSNetError",
    "HSNetWarning",
    "Memory",
    "Segmentation",
    "Tracker",
    "__version__",
    "open_source",
]

_HOMES = {
    "FewShotSegmenter": "hsnet_trt.runtime.segmenter",
    "HSNetError": "hsnet_trt.errors",
    "HSNetWarning": "hsnet_trt.errors",
    "Memory": "hsnet_trt.runtime.video.memory",
    "Segmentation": "hsnet_trt.runtime.pictures.result",
    "Tracker": "hsnet_trt.runtime.video.tracker",
    "open_source": "hsnet_trt.runtime.cameras.source",
}

# ONNX Runtime 1.32 writes a device id to the home folder and collects usage data to send, by a
# thread for which a forked process waits for ever at its end. It reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# In a source tree the stages lie beside this folder (setup.cfg maps them when installed).
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.cfg").is_file() and (_ROOT / "runtime").is_dir():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
