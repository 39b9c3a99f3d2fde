"""Run one episode on any runner: encode, match and vote, at the episode's own size."""

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
    """The inputs of `match` for one episode."""

    query: Tensors
    supports: Tensors


def encode(runner: Runner, episode: Episode, size: Grid, policy: Preprocessing) -> Encoded:
    """The features of an episode's query, and its encoded supports.

    Raises:
        InputError: the mask of a support is empty.
    """
    shots = list(zip(episode.supports, episode.support_masks, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HSNetWarning)  # protocols contain small objects
        supports = encode_shots(runner, episode.class_name, shots, size, policy)
    batch, _ = network_input([episode.query], size, policy)
    return Encoded(run_features(runner, batch), supports)


def logits_of(runner: Runner, encoded: Encoded) -> npt.NDArray[np.float32]:
    """Logits [K,2,h,w] of an episode at the decoder's resolution."""
    logits: npt.NDArray[np.float32] = run_match(runner, encoded.query, encoded.supports)[0]
    return logits


def voted(logits: npt.NDArray[np.float32], episode: Episode, size: Grid) -> Mask:
    """The mask that K shots vote for: bool, of the shape of the episode's query_mask."""
    judged = (episode.query_mask.shape[0], episode.query_mask.shape[1])
    # The reader has already stretched the photograph to `size`: treat it as the runtime's resize.
    masks, _, _ = segment_logits(logits, [episode.shots], Placement(judged, size, 0, 0, size))
    return masks[0]
