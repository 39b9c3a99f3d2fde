"""The stages of the recipe: what is trained on which machine, and in which order.

A GPU trains all sizes at once. Two cores start with small pictures, where a pair costs a thirtieth
of one at 400 x 400, and end with the sizes that the model is meant for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hsnet_trt.model.checkpoint import SHIPPED
from hsnet_trt.training.settings import Part, Settings, speed_settings

SIZE = 400  # that the model is meant for, and judged at
CONTRAST = 5.0  # initial weight of the background contrast, which is trained
SELF_SUPPORT = 3.0  # its weight: not trained but chosen on validation, and added at the end
MINUTES = {"cuda": 6.0, "cpu": 90.0}


@dataclass(frozen=True)
class Stage:
    """A part of the recipe, which continues from the previous one.

    Attributes:
        name: of its run's folder.
        share: of the minutes.
        size: side at which episodes are drawn, the largest of `parts`.
        parts: sides, shares of the batches, episodes per batch.
        batch, reuse: a pool gives `batch` episodes per step, of which one in `reuse` is fresh.
        rate: highest learning rate.
        validate_every: steps between two validations.
        validation_episodes: episodes per validation.
    """

    name: str
    share: float
    size: int
    parts: tuple[Part, ...]
    batch: int
    reuse: int
    rate: float
    validate_every: int
    validation_episodes: int


_ALL = Stage(
    "all", 1.0, SIZE, (Part(256, 0.45, 40), Part(320, 0.30, 24), Part(400, 0.25, 14)),
    batch=40, reuse=20, rate=1e-3, validate_every=1000, validation_episodes=300,
)  # fmt: skip
_SMALL = Stage(
    "small", 2 / 3, 256, (Part(128, 0.5, 16), Part(192, 0.5, 10)),
    batch=16, reuse=16, rate=1e-3, validate_every=2000, validation_episodes=60,
)  # fmt: skip
_LARGE = Stage(
    "large", 1 / 3, SIZE, (Part(256, 0.6, 6), Part(400, 0.4, 3)),
    batch=8, reuse=8, rate=4e-4, validate_every=600, validation_episodes=60,
)  # fmt: skip
# The stage that continues from a checkpoint.
_TUNED = {
    "cuda": Stage("tuned", 1.0, SIZE, _ALL.parts, 40, 20, 3e-4, 1000, 300),
    "cpu": Stage(
        "tuned", 1.0, SIZE,
        (Part(192, 0.35, 10), Part(256, 0.25, 6), Part(320, 0.20, 4), Part(400, 0.20, 3)),
        batch=10, reuse=10, rate=6e-4, validate_every=1000, validation_episodes=60,
    ),
}  # fmt: skip


def stages_of(device: str, tuned: bool) -> tuple[Stage, ...]:
    """The stages on "cuda" or "cpu", from scratch, or from a checkpoint (`tuned`)."""
    if tuned:
        return (_TUNED[device],)
    return (_ALL,) if device == "cuda" else (_SMALL, _LARGE)


def settings_of(
    stage: Stage, root: Path, minutes: float, seed: int, start_from: Path | None = None
) -> Settings:
    """The settings of a stage on this machine.

    Args:
        stage: one of `stages_of`.
        root: the gathered pictures.
        minutes: for all stages together.
        seed: of the initial weights and all sampling; each stage draws other episodes.
        start_from: the checkpoint to continue from; None: a random squeeze network.
    """
    device = device_kind()
    return Settings(
        data=("mixture",),
        root=root,
        backbone="mobilenet_v2",
        # The shipped model holds ImageNet's published weights, rounded to 16 bits.
        backbone_weights=None if start_from else SHIPPED,
        start_from=start_from,
        contrast=None if start_from else CONTRAST,
        self_support=0.0,
        size=(stage.size, stage.size),
        sizes=stage.parts,
        steps=10_000_000,
        minutes=minutes * stage.share,
        batch=stage.batch,
        learning_rate=stage.rate,
        clip=1.0,
        average=0.998,
        schedule="cosine",
        both_ways=True,
        augment=True,
        reuse=stage.reuse,
        seed=seed + 1 if stage is _LARGE else seed,
        validate_every=stage.validate_every,
        validation_episodes=stage.validation_episodes,
        **speed_settings(None, precision=_precision(device), compile=False),
    )


def device_kind() -> str:
    """The device that the recipe uses here, "cuda" or "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(device: str) -> str | None:
    """BF16 also on processors that support it: a step at 192 x 192 took 0.68 of the time."""
    if device == "cuda":
        return None
    has = torch.cpu.get_capabilities()
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
