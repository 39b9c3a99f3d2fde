"""A network and one case's inputs on a device, to check and time forms of the network there.

Before it is timed, every form is compared with the model in FP32 on the same device, with TF32 off.
Device and clock are parameters, so that the code also runs without a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.limits.case import Case, draw_inputs
from hsnet_trt.export.graphs.lowering_conv2d import MatchConv2d
from hsnet_trt.export.graphs.lowering_conv3d import MatchConv3d
from hsnet_trt.export.graphs.probe import normalise
from hsnet_trt.model.hsnet import HSNet

Clock = Callable[[Callable[[], Any]], float]  # milliseconds of a call

LOWERINGS = {"conv2d": MatchConv2d, "conv3d": MatchConv3d}
ROW_S = 8.0  # seconds that must be left to begin a row
# Largest difference over the standard deviation; FP32 is without TF32.
TOLERANCE = {"fp32": 1e-3, "tf32": 0.05, "fp16": 0.1, "bf16": 0.5}
_TYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Device:
    """A network and one case's inputs on a device.

    Args:
        model: in FP32; it is copied.
        case: backbone, size, shots and mask area, with one class and one query.
        device: as PyTorch names it.
        clocks: name -> way to time a call, as it is or as a CUDA graph.
    """

    def __init__(self, model: HSNet, case: Case, device: str, clocks: dict[str, Clock]) -> None:
        import torch

        self.torch, self.case, self.device, self.clocks = torch, case, device, clocks
        self.model = copy.deepcopy(model).eval().to(device)
        self.compute_in("fp32")  # for the reference; cuDNN uses TF32 by default
        inputs = draw_inputs(case, model.grids(case.size))
        self.query = normalise(np.stack(inputs.queries[0])).to(device)
        self.supports = normalise(np.stack(inputs.supports[0].images[0])).to(device)
        self.masks = torch.from_numpy(np.stack(inputs.supports[0].masks[0])).float().to(device)
        with torch.no_grad():
            self.features = self.model.features(self.query)
            self.encoded = self.model.support(self.model.features(self.supports), self.masks)
            self.logits = self.model.match(self.features, self.encoded, case.size)

    def compute_in(self, precision: str) -> Any:
        """Switch TF32 on or off from now on; returns PyTorch's dtype for that precision."""
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return getattr(torch, _TYPES[precision])

    def timed(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Milliseconds by clock; an error message for a clock that failed."""
        found: dict[str, Any] = {}
        for name, clock in self.clocks.items():
            try:
                found[name] = round(clock(call), 4)
            except RuntimeError as error:  # some operations cannot be captured in a graph
                found[name] = f"not: {str(error).splitlines()[0][:120]}"
        return found

    def judged(self, name: str, precision: str, logits: Any) -> dict[str, Any]:
        """The relative error of logits, and whether it is too large."""
        expected = self.logits.flatten(0, 1)
        error = off(logits.reshape(expected.shape), expected)
        wrong = [] if error <= TOLERANCE[precision] else [f"{name} {precision}: off by {error:.2g}"]
        return {"error": error, "wrong": wrong}


def off(found: Any, expected: Any) -> float:
    """Largest difference over the standard deviation of the expected values."""
    error = (found.float() - expected.float()).abs().max() / expected.float().std()
    return float(error)
