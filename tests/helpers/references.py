"""The outputs of the authors' code under tests/data, and the inputs they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from helpers.places import DATA

FOLDER = DATA
FILES = sorted(FOLDER.glob("hsnet_*.npz"))

_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])


@dataclass
class Case:
    """One file: inputs as the network takes them, and the arrays of the file."""

    backbone: str
    query: torch.Tensor  # [1,3,H,W]
    supports: torch.Tensor  # [1,K,3,H,W]
    masks: torch.Tensor  # [1,K,H,W]
    arrays: dict[str, np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        return self.query.shape[2], self.query.shape[3]


def load(path: Path) -> Case:
    with np.load(path) as file:
        arrays = dict(file)
    if "query" in arrays:
        query, supports = arrays["query"], arrays["support_images"]
    else:
        query, supports = (_normalised(arrays[f"{n}_uint8"]) for n in ("query", "support_images"))
    return Case(
        backbone=path.stem.split("_")[1],
        query=torch.from_numpy(query),
        supports=torch.from_numpy(supports),
        masks=torch.from_numpy(arrays["support_masks"]).float(),
        arrays=arrays,
    )


def case(name: str) -> Case:
    return load(FOLDER / f"hsnet_{name}.npz")


def _normalised(images: np.ndarray) -> np.ndarray:
    """uint8 [...,3,H,W] -> float32, normalised by ImageNet's statistics."""
    shape = (3, 1, 1)
    return ((images / 255 - _MEAN.reshape(shape)) / _STD.reshape(shape)).astype(np.float32)
