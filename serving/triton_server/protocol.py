"""The protocol between clients and the Triton model `hsnet`: actions and tensors.

Each request performs one `action`:

- ``register``: K shots as `image`, `mask` (files' contents) and `class` -> `set`, the id of the
  support set, a hash of its content, so that the same supports have the same id on every server and
  after every restart; `classes`; `notes`, warnings in words.
- ``segment``: one `image` and a `set` -> `labels`, `classes`, `presence`, `present_from`,
  `milliseconds`, and, only if requested by name, `masks` and `scores`.
- ``forget``: a `set` -> `status`.
- ``status``: -> `status`, JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ACTIONS = ("register", "segment", "forget", "status")

# name -> Triton type, dimensions of one request (without the batch dimension, which is always 1)
INPUTS: dict[str, tuple[str, list[int]]] = {
    "action": ("TYPE_STRING", [1]),
    "set": ("TYPE_STRING", [1]),
    "image": ("TYPE_STRING", [-1]),
    "mask": ("TYPE_STRING", [-1]),
    "class": ("TYPE_STRING", [-1]),
}
OUTPUTS: dict[str, tuple[str, list[int]]] = {
    "set": ("TYPE_STRING", [1]),
    "notes": ("TYPE_STRING", [-1]),
    "status": ("TYPE_STRING", [1]),
    "classes": ("TYPE_STRING", [-1]),
    "labels": ("TYPE_UINT8", [-1, -1]),  # [H,W]: 0 background, i + 1 for classes[i]
    "masks": ("TYPE_BOOL", [-1, -1, -1]),  # [classes,H,W]
    "scores": ("TYPE_FP32", [-1, -1, -1]),  # [classes,H,W] in [0,1]
    "presence": ("TYPE_FP64", [-1]),  # the score of each class, in [0,1]; see `matching.presence`
    "present_from": ("TYPE_FP64", [1]),  # the score from which a class counts as present
    "milliseconds": ("TYPE_FP32", [4]),  # of STEPS
}
LARGE = ("masks", "scores")  # left out unless a request names them
STEPS = ("preprocess", "features", "match", "postprocess")


def set_id(shots: Iterable[tuple[str, bytes, bytes]]) -> str:
    """The id of a support set: 32 hex digits of the SHA-256 of its shots, in their order.

    Args:
        shots: class, content of the image's file, content of the mask's file.
    """
    digest = hashlib.sha256()
    for name, image, mask in shots:
        for part in (name.encode(), image, mask):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()[:32]
