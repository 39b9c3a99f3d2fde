"""A Bayesian colour model of one picture: colours of the predicted foreground support the object.

The evidence at a position is the log ratio of its colour's frequency in the predicted foreground to
that in the background. A quarter of it is added to the logit, and less where the prediction has no
confident position, so that false detections are not amplified. Histograms count hard decisions, so
that counts are whole numbers and the same on every machine.

The constants were chosen on real photographs: see docs/beyond-the-paper.md.
"""

from __future__ import annotations

import numpy as np

from hsnet_trt.runtime.pictures.preprocess import Floats

BINS = 16  # per channel, as in `colour.cuh`
WEIGHT = 0.25  # of the log ratio, since colours of neighbours are far from independent
RAREST = 1e-4  # added to the frequencies, so that an unseen colour is rare and not impossible
SURE = 4.0  # peak logit for the full weight; below it, the weight is proportional to the peak
MOST = 3.0  # log ratios are clipped to +-3


def colour_evidence(difference: Floats, colours: Floats) -> Floats:
    """The evidence of each position's colour, by shot.

    Args:
        difference: foreground minus background logits, float32 [S,h,w].
        colours: of the positions, float32 [3,h,w] in [0,1].

    Returns:
        The values to add to `difference`, float32 [S,h,w]; 0 for a shot whose positions are all
        foreground, or all background.
    """
    levels = np.clip((colours * BINS).astype(np.int64), 0, BINS - 1)
    colour = ((levels[0] * BINS + levels[1]) * BINS + levels[2]).ravel()
    evidence = np.zeros(difference.shape, np.float32)
    for shot, found in zip(difference, evidence, strict=True):
        inside = (shot > 0).ravel()
        counts = [np.bincount(colour[side], minlength=BINS**3) for side in (inside, ~inside)]
        totals = [side.sum() for side in counts]
        if not all(totals):
            continue
        within, without = (n / total + RAREST for n, total in zip(counts, totals, strict=True))
        weight = WEIGHT * min(1.0, float(shot.max()) / SURE)
        ratio = weight * np.clip(np.log(within / without), -MOST, MOST)
        found[...] = ratio[colour].reshape(found.shape)
    return evidence
