"""The runtime is light: importing it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

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
