"""Reproducible random weights for tests and trials without a checkpoint.

The weights are random: the masks show that the pipeline works, not what the model can do.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from hsnet_trt.model.hsnet import HSNet


def recipe_model(backbone: str, contrast: float = 0.0, self_support: float = 0.0) -> HSNet:
    """An HSNet whose weights are drawn key by key, seeded by the key's name (tests/data/README.md).

    The scales keep activations in a sensible range through the whole network. For the other
    arguments see `HSNet`.
    """
    model = HSNet(backbone, contrast, self_support)
    state = {
        key: torch.from_numpy(_draw(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
        if not key.startswith(("contrast.", "self_support."))
    }
    model.load_state_dict(state, strict=False)
    return model.eval()


def _draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        value = 1 + 0.1 * rng.rand(*shape)
    elif key.endswith("running_mean"):
        value = 0.05 * rng.randn(*shape)
    elif len(shape) == 1 and key.endswith("weight"):
        value = 0.6 + 0.1 * rng.randn(*shape)
    elif len(shape) == 1:
        value = 0.05 * rng.randn(*shape)
    else:
        value = np.sqrt(2 / np.prod(shape[1:])) * rng.randn(*shape)
    return np.asarray(value, np.float32)
