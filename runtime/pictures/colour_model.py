"""What an answer's colours say: those of a picture that are found inside it more than outside it.

A Bayesian colour model of one picture: the logarithm of how often a position's colour is found
inside the network's answer, over how often outside, is evidence for the object, and a quarter of it
is added to the logit: less of it where the answer is nowhere sure, so that little is made of what
is found where nothing is. Colours are counted in histograms, by hard decisions, so that the counts
are whole numbers and the same on every machine.

The constants were chosen on real photographs: see docs/beyond-the-paper.md.
"""

from __future__ import annotations

import numpy as np

from hsnet_trt.runtime.pictures.preprocess import Floats

BINS = 16  # of a channel, as in `colour.cuh`
WEIGHT = 0.25  # of the log ratio, since colours of neighbours are far from independent
RAREST = 1e-4  # added to the shares, so that a colour that was not seen is rare and not impossible
SURE = 4.0  # the logit from which an answer is sure; below, the weight is less in proportion
MOST = 3.0  # a log ratio counts as no more, either way


def colour_evidence(difference: Floats, colours: Floats) -> Floats:
    """The evidence of each position's colour, by shot.

    Args:
        difference: foreground logits less those of the background, float32 [S,h,w].
        colours: of the positions, float32 [3,h,w] in [0,1].

    Returns:
        What is to be added to the difference, float32 [S,h,w]; 0 where all of a shot's positions
        are inside the answer, or none.
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
