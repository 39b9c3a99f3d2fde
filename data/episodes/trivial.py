"""Answers without a network: the baseline that any result has to beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hsnet_trt.data.episodes.episode import Episode, Image, Mask
from hsnet_trt.data.episodes.files import resize_mask

_BINS = 16  # per colour channel
_WINDOW = 5  # pixels, of the smoothing


def all_foreground(episode: Episode) -> Mask:
    """Mark every pixel as the object: bool, shaped as the query's mask."""
    return np.ones(episode.query_mask.shape, np.bool_)


def colour_histogram(episode: Episode) -> Mask:
    """Mark the pixels with the object's colours: bool, shaped as the query's mask.

    Histogram back-projection (Swain and Ballard, Color Indexing, IJCV 1991): for each colour, the
    object's share among the supports' pixels, looked up for the query and smoothed. The threshold
    is the one with the highest mean IoU on the supports themselves.
    """
    inside, outside = np.zeros(_BINS**3), np.zeros(_BINS**3)
    for image, mask in zip(episode.supports, episode.support_masks, strict=True):
        colours = _bins(image)
        inside += np.bincount(colours[mask], minlength=_BINS**3)
        outside += np.bincount(colours[~mask], minlength=_BINS**3)
    share = inside / np.maximum(inside + outside, 1)
    best, threshold = -1.0, 0.5
    maps = [_smooth(share[_bins(image)]) for image in episode.supports]
    for candidate in np.linspace(0.05, 0.95, 19):
        overlap = [
            (seen >= candidate)[mask].sum() / max(((seen >= candidate) | mask).sum(), 1)
            for seen, mask in zip(maps, episode.support_masks, strict=True)
        ]
        if np.mean(overlap) > best:
            best, threshold = float(np.mean(overlap)), float(candidate)
    answer: Mask = _smooth(share[_bins(episode.query)]) >= threshold
    shape = episode.query_mask.shape
    return resize_mask(answer, (shape[0], shape[1]))


def _bins(image: Image) -> npt.NDArray[np.intp]:
    level = image.astype(np.intp) * _BINS // 256
    numbers: npt.NDArray[np.intp] = (level[..., 0] * _BINS + level[..., 1]) * _BINS + level[..., 2]
    return numbers


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over a square window, from running sums."""
    padded = np.pad(values, (_WINDOW // 2 + 1, _WINDOW // 2), mode="edge")
    padded[0], padded[:, 0] = 0, 0
    sums = padded.cumsum(0).cumsum(1)
    w = _WINDOW
    mean: npt.NDArray[np.float64] = (
        sums[w:, w:] - sums[:-w, w:] - sums[w:, :-w] + sums[:-w, :-w]
    ) / w**2
    return mean
