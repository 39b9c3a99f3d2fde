"""Inputs and outputs of the PyTorch model, kept in the bundle to verify it anywhere."""

from __future__ import annotations

import io

import numpy as np

from hsnet_trt.export.graphs.parity import Reference
from hsnet_trt.runtime.matching.graphs import FEATURES
from hsnet_trt.runtime.matching.packing import supports_in

_SAMPLES = 4096  # of each intermediate tensor; whole ones would weigh 100 MB


def golden(reference: Reference) -> bytes:
    """An `.npz` with two queries, two supports and the model's outputs for them.

    `queries` uint8 [2,H,W,3], `supports` uint8 [2,H,W,3], `masks` bool [2,H,W], `logits` float32
    [2,2,2,h,w]; and of each of f2, f3, f4 (of the queries) and s2, s3, s4 (and c3, c4) some values
    `<name>` float32 [n] at the flat positions `<name>_index` int64 [n] of the graphs' outputs.
    """
    probe = reference.probe
    outputs = {name: array[:2] for name, array in reference.float32.items()}
    arrays: dict[str, np.ndarray] = {
        "queries": probe.queries[:2],
        "supports": probe.supports[:2],
        "masks": probe.masks[:2],
        "logits": outputs["logits"][:, :2],
    }
    rng = np.random.RandomState(0)
    for name in (*FEATURES, *supports_in(outputs)):
        size = outputs[name].size
        index = np.sort(rng.choice(size, min(_SAMPLES, size), replace=False)).astype(np.int64)
        arrays[f"{name}_index"], arrays[name] = index, outputs[name].ravel()[index]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
