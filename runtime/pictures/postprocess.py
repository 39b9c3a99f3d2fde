"""From logits at decoder resolution to masks, scores and labels at the query's own size.

A two-class softmax and argmax need only the difference of the two logits, and upsampling is linear.
So one plane per shot is upsampled, once, straight to the query's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hsnet_trt.runtime.pictures.preprocess import Floats, Placement

_CHUNK_ELEMENTS = 1 << 16  # of a shot's plane at once: fits in a core's cache


def segment_logits(
    logits: Floats, shots: Sequence[int], placement: Placement
) -> tuple[list[npt.NDArray[np.bool_]], list[Floats], npt.NDArray[np.uint8]]:
    """Masks by the vote of the authors' `predict_mask_nshot`, scores, and labels.

    A shot votes foreground where logit 1 > logit 0 (bilinear, align_corners, at the query's own
    size). A class's mask is where votes / max(1, largest vote of this query) >= 0.5; its score is
    the mean foreground softmax of its shots. Where masks overlap, the label is that of the class
    with the highest score.

    Args:
        logits: float32 [S,2,h,w] of one query against all shots, class after class; h and w are at
            least 2.
        shots: the number of shots of each class; their sum is S.
        placement: where the query is in the network's input.

    Returns:
        Per class, masks bool [H,W] and scores float32 [H,W] in [0,1]; and labels uint8 [H,W], 0 for
        background, i + 1 for class i.
    """
    height, width = placement.source
    difference = logits[:, 1] - logits[:, 0]
    left, across = sample_positions(difference.shape[2], placement, axis=1)
    wide = difference[:, :, left]
    wide += across * (difference[:, :, left + 1] - wide)
    above, down = sample_positions(difference.shape[1], placement, axis=0)
    slope = wide[:, 1:] - wide[:, :-1]
    masks, scores = [], []
    labels = np.zeros((height, width), np.uint8)
    best = np.zeros((height, width), np.float32) if len(shots) > 1 else None
    step = max(1, _CHUNK_ELEMENTS // width)
    first = 0
    for index, count in enumerate(shots):
        votes = np.zeros((height, width), np.uint16)
        score = np.zeros((height, width), np.float32)
        for top in range(0, height, step):
            part = slice(top, top + step)
            for shot in range(first, first + count):
                plane = slope[shot][above[part]]
                plane *= down[part, None]
                plane += wide[shot][above[part]]
                votes[part] += plane > 0
                score[part] += sigmoid(plane)
        score /= count
        # votes / largest >= 0.5, in integers
        mask = votes >= (max(1, int(votes.max())) + 1) // 2
        if best is None:
            labels = mask.astype(np.uint8)
        else:
            wins = mask & ((score > best) | (labels == 0))
            labels[wins] = index + 1
            np.copyto(best, score, where=wins)
        masks.append(mask)
        scores.append(score)
        first += count
    return masks, scores, labels


def sample_positions(
    decoder: int, placement: Placement, axis: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The two decoder positions around each pixel of the query, and the weight of the second.

    Bilinear with align_corners, twice: the photograph's corners are aligned with its place in the
    network's input, and the input's corners with the decoder's.

    Returns:
        The lower position, int64 [query size] in 0..decoder - 2, and the weight of the upper one,
        float32 [query size] in [0,1].
    """
    size, network = placement.source[axis], placement.network[axis]
    content, offset = placement.content[axis], (placement.top, placement.left)[axis]
    inside = np.arange(size, dtype=np.float64) * ((content - 1) / max(1, size - 1))
    position = (offset + inside) * ((decoder - 1) / max(1, network - 1))
    low = np.clip(np.floor(position).astype(np.int64), 0, decoder - 2)
    return low, (position - low).astype(np.float32)


def sigmoid(plane: Floats) -> Floats:
    """The foreground softmax of a logit difference; overwrites `plane`."""
    np.clip(plane, -80, 80, out=plane)  # exp would overflow from 88 on
    np.negative(plane, out=plane)
    np.exp(plane, out=plane)
    plane += 1
    np.reciprocal(plane, out=plane)
    return plane
