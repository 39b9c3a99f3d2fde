"""The model that comes along is the one that was judged."""

import json
import warnings

import numpy as np
import pytest
import torch

from hsnet_trt.data.drawn.procedural import procedural
from hsnet_trt.data.episodes.metrics import Score
from hsnet_trt.data.sets.folder import folder
from hsnet_trt.model.checkpoint import SHIPPED, load_checkpoint, weights_sha256
from hsnet_trt.training.validation import answer_batch

SIDE = 256


@pytest.fixture(scope="module")
def shipped():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_checkpoint("shipped")


def test_it_is_small_trained_and_the_one_that_was_judged(shipped):
    facts = json.loads(SHIPPED.with_name("model.json").read_text())
    assert SHIPPED.stat().st_size < 30e6
    assert shipped.trained and shipped.size == (SIDE, SIDE) == (facts["size"], facts["size"])
    assert weights_sha256(shipped) == facts["weights_sha256"]


def test_miou_on_fixed_drawn_episodes(shipped):
    """Within the interval that was measured; classes that were never learned."""
    episodes = procedural(split="test", size=(SIDE, SIDE), seed=0, count=50)
    score = Score(episodes.classes)
    for episode in episodes:
        score.add(episode, answer_batch(shipped, [episode], torch.device("cpu"))[0])
    # 42.1 when it was made, of which the bootstrap interval of 50 episodes is some 8 points.
    assert 38 <= score.miou() <= 46


def test_it_finds_things_in_other_photographs(shipped):
    """Things of classes that were held out, each in photographs by different people."""
    from hsnet_trt.cli import demo

    episodes = folder(demo._PHOTOGRAPHS, split="test", size=(SIDE, SIDE), seed=0)
    found, everything = [], []
    for episode in episodes.take(17):
        answer = answer_batch(shipped, [episode], torch.device("cpu"))[0]
        truth = episode.query_mask
        found.append((answer & truth).sum() / (answer | truth).sum())
        everything.append(truth.mean())
    assert np.mean(found) > np.mean(everything) + 0.05
