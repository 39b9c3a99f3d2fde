"""An episode through any runner: encoded, matched, and voted on, at the episode's own size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.errors import HSNetWarning
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.encode import encode_shots
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.matching.running import run_features, run_match
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import Placement, network_input

Grid = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """What `match` takes of an episode."""

    query: Tensors
    supports: Tensors


def encode(runner: Runner, episode: Episode, size: Grid, policy: Preprocessing) -> Encoded:
    """Features of an episode's query, and its supports encoded.

    Raises:
        InputError: a support's mask is empty.
    """
    shots = list(zip(episode.supports, episode.support_masks, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HSNetWarning)  # small objects are part of a protocol
        supports = encode_shots(runner, episode.class_name, shots, size, policy)
    batch, _ = network_input([episode.query], size, policy)
    return Encoded(run_features(runner, batch), supports)


def logits_of(runner: Runner, encoded: Encoded) -> npt.NDArray[np.float32]:
    """Logits [K,2,h,w] of an episode at the decoder's resolution."""
    logits: npt.NDArray[np.float32] = run_match(runner, encoded.query, encoded.supports)[0]
    return logits


def voted(logits: npt.NDArray[np.float32], episode: Episode, size: Grid) -> Mask:
    """The mask that K shots vote for, bool, shaped as the episode's query_mask."""
    judged = (episode.query_mask.shape[0], episode.query_mask.shape[1])
    # As if the photograph had been resized by the runtime, which the reader has done alike.
    masks, _, _ = segment_logits(logits, [episode.shots], Placement(judged, size, 0, 0, size))
    return masks[0]
