"""What answers episodes: the model, as it predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hsnet_trt.benchmarks.accuracy.answers import TorchNetwork
from hsnet_trt.data.sources import Source
from hsnet_trt.model.hsnet import HSNet

SIZE = (64, 64)

pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker exports their bundle


def test_the_reference_answers_as_the_model_predicts(model: HSNet, blobs: Path) -> None:
    episodes = Source(("folder",), root=blobs, size=(64, 96), shots=3).open("test")
    network = TorchNetwork(model)
    mean, std = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def tensor(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))

    for episode in episodes.take(3):
        shown = tensor(episode.supports)[None]
        masks = torch.from_numpy(episode.support_masks)[None]
        expected = model.predict(tensor(episode.query[None]), shown, masks)[0].numpy() > 0.5
        assert (network.answer(episode) == expected).mean() > 0.999
