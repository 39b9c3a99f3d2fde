"""The runtime is light: importing it loads nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch", "onnx", "tensorrt", "tensorrt_rtx", "pycuda", "onnxruntime", "scipy", "cv2"]
MODULES = [
    "hsnet_trt",
    "hsnet_trt.runtime",
    "hsnet_trt.runtime.segmenter",
    "hsnet_trt.runtime.verify",
    "hsnet_trt.runtime.engines.runner",
    "hsnet_trt.runtime.ort.runner",
    "hsnet_trt.runtime.backends",
]


@pytest.mark.parametrize("modules", [MODULES[1:2], MODULES], ids=["package", "everything"])
def test_importing_loads_nothing_heavy(modules: list[str]) -> None:
    code = (
        f"import sys, {', '.join(modules)}\n"
        "from hsnet_trt import FewShotSegmenter, Segmentation, HSNetError\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        "ours = ('hsnet_trt.model', 'hsnet_trt.export')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_segmenting_loads_neither_torch_nor_onnx(bundle: object) -> None:
    code = (
        "import sys, numpy as np\n"
        "from hsnet_trt import FewShotSegmenter\n"
        f"with FewShotSegmenter.load({str(bundle)!r}) as segmenter:\n"
        "    mask = np.zeros((96, 128), bool); mask[20:90, 20:110] = True\n"
        "    segmenter.set_support('x', np.full((96, 128, 3), 7, np.uint8), mask)\n"
        "    segmenter.segment(np.full((5, 7, 3), 7, np.uint8))\n"
        "print([n for n in ('torch', 'onnx', 'tensorrt', 'tensorrt_rtx') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_segmenting_leaves_nothing_in_the_home_folder(bundle: object, tmp_path: Path) -> None:
    """ONNX Runtime would keep a device id and a database of usage data there."""
    code = (
        "from hsnet_trt import FewShotSegmenter\n"
        f"FewShotSegmenter.load({str(bundle)!r}, 'onnxruntime').close()\n"
    )
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": _sys_path()}
    subprocess.run([sys.executable, "-c", code], env={**kept, **places}, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _sys_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)
