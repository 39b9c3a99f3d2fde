"""Episodes of coloured blobs, in memory, and a calibration subject cut down to be quick."""

from __future__ import annotations

import dataclasses

import numpy as np
from helpers.data_sets.tiny_sets import blob

from hsnet_trt.calibration.subject import Subject
from hsnet_trt.data.episodes.episode import Episode, Episodes

SIZE = (96, 96)  # at 64 the objects miss all of level 4's 2 x 2 positions


def make_episode(number: int, *, empty: bool = False) -> Episode:
    query, query_mask = blob(2 * number, number % 3, SIZE)
    support, mask = blob(2 * number + 1, number % 3, SIZE)
    return Episode(
        query=query,
        query_mask=query_mask,
        supports=support[None],
        support_masks=np.zeros_like(mask[None]) if empty else mask[None],
        class_id=number % 3,
        class_name=f"c{number % 3}",
        ignore=None,
        query_name=f"q{number}",
        support_names=(f"s{number}",),
        original_size=SIZE,
    )


CLASSES = {0: "c0", 1: "c1", 2: "c2"}
BLOBS = Episodes("blobs", CLASSES, make_episode, None)


def few_layers(subject: Subject, names: set[str]) -> Subject:
    """Leave only some layers to be quantised, to be quick."""
    subject.placements = {
        graph: dataclasses.replace(p, layers=[x for x in p.layers if x.name in names])
        for graph, p in subject.placements.items()
    }
    return subject
