"""Trivial answers, without a trained squeeze network: the baseline that a network has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from hsnet_trt.benchmarks.accuracy.answers import JudgedNetwork, refined, size_of, size_of_input
from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.data.episodes.trivial import all_foreground, colour_histogram
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.pictures.guided_filter import SUREST
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import Placement

Floats = npt.NDArray[np.float32]


def foreground_minus_background(features: Tensors, levels: Sequence[str], episode: Episode) -> Mask:
    """Segment by two prototypes; nothing is trained except the backbone.

    One prototype is the mean feature of the supports' objects (masked average pooling, SG-One,
    arXiv 1810.09091, section III), the other that of their backgrounds. A pixel is foreground if
    the cosine of its feature to the first exceeds that to the second, averaged over the levels.

    Args:
        features: of the query, then of the K supports; each level is [1+K,L,C,h*w].
        levels: some of "f2", "f3" and "f4" (strides 8, 16, 32); the last layer of each is used.
        episode: the episode that the features belong to.

    Returns:
        bool, shaped as the episode's query_mask.
    """
    contrasts = [_contrast(features[level][:, -1], episode) for level in levels]
    return np.asarray(np.sum(contrasts, axis=0) > 0, np.bool_)


def _contrast(last: Floats, episode: Episode) -> Floats:
    """Cosine to the foreground prototype minus that to the background's, float32 [H,W].

    `last`: features of the query and of the K supports, [1+K,C,h*w]. [H,W] is the shape of the
    episode's query_mask.
    """
    grid = _grid(last.shape[2], size_of_input(episode))
    shares = np.stack([_shrunk(mask, grid) for mask in episode.support_masks])  # [K,h*w]
    supports = last[1:].transpose(1, 0, 2).reshape(last.shape[1], -1)  # [C,K*h*w]
    means = [
        supports @ (weight / max(float(weight.sum()), 1e-6))
        for weight in (shares.ravel(), 1 - shares.ravel())
    ]
    cosines = [
        mean @ last[0] / (np.linalg.norm(mean) * np.linalg.norm(last[0], axis=0) + 1e-6)
        for mean in means
    ]
    difference = np.asarray(cosines[0] - cosines[1], np.float32).reshape(grid)
    height, width = episode.query_mask.shape
    smooth = PILImage.fromarray(difference).resize((width, height), PILImage.Resampling.BILINEAR)
    return np.asarray(smooth, np.float32)


@dataclass(frozen=True)
class Trivial:
    """A named answer that needs no trained squeeze network."""

    name: str
    answer: Callable[[Episode], Mask]


_STRIDE = 4  # of a network's logits
# Each level alone, and the two best ones together, which is the strongest.
_PROTOTYPES = {
    "prototypes, stride 8": ("f2",),
    "prototypes, stride 16": ("f3",),
    "prototypes, stride 32": ("f4",),
    "prototypes, 16 + 32": ("f3", "f4"),
}


def trivial_answers(network: JudgedNetwork) -> list[Trivial]:
    """All trivial answers; the prototypes use the backbone of `network`.

    If `network` refines its masks, refined trivial answers are added.
    """
    kept: list[tuple[Episode, Tensors]] = []  # features of the last episode, shared by prototypes

    def features_of(episode: Episode) -> Tensors:
        if not kept or kept[0][0] is not episode:
            images = np.concatenate([episode.query[None], episode.supports])
            kept[:] = [(episode, network.features(images))]
        return kept[0][1]

    def by_prototypes(name: str, levels: Sequence[str]) -> Trivial:
        return Trivial(
            name,
            lambda episode: foreground_minus_background(features_of(episode), levels, episode),
        )

    by_content = [
        Trivial("colour histogram", colour_histogram),
        *(by_prototypes(name, levels) for name, levels in _PROTOTYPES.items()),
    ]
    too = [_refined_too(trivial) for trivial in by_content] if network.refine else []
    return [Trivial("all foreground", all_foreground), *by_content, *too]


def _refined_too(trivial: Trivial) -> Trivial:
    """The same answer with refined edges, as if it were a network's at stride 4."""

    def answer(episode: Episode) -> Mask:
        size = size_of_input(episode)
        grid = (max(2, size[0] // _STRIDE), max(2, size[1] // _STRIDE))
        share = _shrunk(trivial.answer(episode), grid).reshape(grid)
        value = np.clip(2 * share - 1, -SUREST, SUREST)
        logits = np.stack([np.zeros_like(value), 2 * np.arctanh(value)])[None]
        judged = Placement(size_of(episode.query_mask), size, 0, 0, size)
        return segment_logits(refined(logits, episode, Preprocessing()), [1], judged)[0][0]

    return Trivial(f"{trivial.name}, refined", answer)


def _grid(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of a grid with that many positions and the images' aspect ratio."""
    heights = [h for h in range(1, positions + 1) if positions % h == 0]
    wanted = math.log(size[0] / size[1])
    height = min(heights, key=lambda h: abs(math.log(h * h / positions) - wanted))
    return height, positions // height


def _shrunk(mask: Mask, grid: tuple[int, int]) -> Floats:
    """The share of each grid position that the mask covers, float32 [h*w]."""
    picture = PILImage.fromarray(mask.astype(np.float32))
    small = picture.resize((grid[1], grid[0]), PILImage.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()
