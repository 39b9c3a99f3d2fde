"""The settings of a training run."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError

# What may differ when a run is resumed: it changes the speed, not what is learned.
_FREE = {"workers", "device", "compile", "root", "splits"}
_VALIDATION_SEED = 20_000  # another stream than the one learned from


@dataclass(frozen=True)
class Part:
    """A share of the batches: their side in pixels (square), and episodes in each."""

    side: int
    share: float
    batch: int


@dataclass(frozen=True)
class Settings:
    """One training run. The defaults are the paper's where it gives a value.

    Attributes:
        data: where episodes come from (data.sources.SOURCES); of several, each in turn.
        root, fold, splits: see data.sources.Source.
        backbone: vgg16, resnet18, resnet50, resnet101, efficientnet_lite0 or mobilenet_v2.
        backbone_weights: a torchvision state_dict or any checkpoint of that backbone.
        start_from: an HSNet checkpoint whose weights are the start.
        weights: which of a checkpoint that holds several: see `load_checkpoint`.
        train_backbone: learn the backbone too; otherwise it is frozen, in eval mode.
        contrast: weight of the background contrast at the start, learned with the rest; 0 for a
            network without it, None for that of `start_from`, else without.
        self_support: likewise, of self-support.
        size: (height, width) of the images.
        sizes: batches of several sizes in one run, drawn at `size` and shrunk; needs `reuse`.
            None: all are of `size`.
        steps: how many batches.
        minutes: of learning, in place of a number of steps, which then is the most; validations
            are not counted. The schedule follows the time.
        batch: episodes per batch.
        learning_rate: of Adam.
        clip: the largest norm of the gradient; None: any.
        average: how much of the weights' running mean a step keeps; it is what is validated and
            kept. 0: none.
        schedule: "constant", as in the paper, or "cosine": a short rise, then down to zero.
        both_ways: each episode also the other way round, the support as the query: nearly twice
            the pairs from the same features.
        augment: flips, warps and other colours.
        reuse: how often a drawn episode is used. Above 1, they wait in a pool on the device.
        seed: of the first weights and of everything that is drawn.
        validate_every: steps between two validations.
        validation_episodes: how many at each; fewer where the dataset's list ends.
        skip_bad: leave out episodes with broken files instead of stopping.
        precision: "fp32", or "bf16" for mixed precision.
        compile: let torch.compile fuse the step.
        workers: processes that draw episodes; 0 draws in this one.
        device: as torch names it.
    """

    data: tuple[str, ...]
    root: Path | None = None
    fold: int = 0
    splits: Path | None = None
    backbone: str = "resnet50"
    backbone_weights: Path | None = None
    start_from: Path | None = None
    weights: str | None = None
    train_backbone: bool = False
    contrast: float | None = None
    self_support: float | None = None
    size: tuple[int, int] = (400, 400)
    sizes: tuple[Part, ...] | None = None
    steps: int = 50_000
    minutes: float | None = None
    batch: int = 20
    learning_rate: float = 1e-3
    clip: float | None = None
    average: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    both_ways: bool = False
    augment: bool = False
    reuse: int = 1
    seed: int = 0
    validate_every: int = 1000
    validation_episodes: int = 1000
    skip_bad: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    workers: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "reuse", "validate_every", "validation_episodes"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} makes no sense", expected="1 or more", found=getattr(self, name)
                )
        if self.batch % self.reuse:
            raise InputError(
                "The batch cannot be shared out",
                found=f"batch {self.batch}, reuse {self.reuse}",
                expected="a batch that is a multiple of reuse",
            )
        if self.train_backbone and self.batch < 2:
            raise InputError(
                "A backbone is not learned from one episode at a time",
                expected="a batch of 2",
                found=self.batch,
                fix="raise --batch: batch statistics need several pictures",
            )
        for name, choices in (
            ("schedule", ("constant", "cosine")),
            ("precision", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"There is no such {name}",
                    expected=" or ".join(choices),
                    found=getattr(self, name),
                )
        if self.sizes and (self.reuse == 1 or max(p.side for p in self.sizes) > min(self.size)):
            raise InputError(
                "Batches of several sizes are shrunk from a pool of the largest",
                expected="reuse above 1, and no side above that of size",
                found=f"reuse {self.reuse}, size {self.size}, sides "
                f"{', '.join(str(part.side) for part in self.sizes)}",
            )
        if self.minutes is not None and self.minutes <= 0:
            raise InputError("minutes makes no sense", expected="above 0", found=self.minutes)
        if self.learning_rate <= 0:
            raise InputError(
                "The learning rate makes no sense", expected="above 0", found=self.learning_rate
            )

    def source(self, seed: int | None = None) -> Source:
        """Where its episodes come from; `seed` for another stream than the one learned from."""
        return Source(
            self.data,
            root=self.root,
            fold=self.fold,
            splits=self.splits,
            size=self.size,
            seed=self.seed if seed is None else seed,
        )

    @property
    def validation_source(self) -> Source:
        """The episodes of validation are the same whatever the seed."""
        return self.source(_VALIDATION_SEED)

    def facts(self) -> dict[str, Any]:
        """All of it as plain numbers, strings and lists, for checkpoints and logs."""
        plain: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            listed = list(value) if isinstance(value, tuple) else value
            plain[name] = str(listed) if isinstance(listed, Path) else listed
        plain["sizes"] = [list(dataclasses.astuple(part)) for part in self.sizes or ()]
        return plain

    def check_same(self, others: dict[str, Any]) -> None:
        """Refuse to resume a run with other settings.

        Raises:
            InputError: naming what differs.
        """
        own = self.facts()
        differing = [
            f"{name} {others.get(name)!r}, now {own[name]!r}"
            for name in own
            if name not in _FREE and others.get(name) != own[name]
        ]
        if differing:
            raise InputError(
                "The run to resume had other settings",
                expected="the same settings",
                found="; ".join(differing),
                fix="repeat its command with --resume, or choose another --out",
            )


def speed_settings(
    device: str | None,
    *,
    precision: str | None = None,
    compile: bool | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Choose what makes a run fast on this machine, if not given: `Settings` by name.

    On a GPU: bf16, torch.compile, and a drawing process for every core, 16 at most. On a CPU, which
    learns slower than it draws: one drawing process.
    """
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = chosen.startswith("cuda")
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return {
        "device": chosen,
        "precision": precision or ("bf16" if gpu else "fp32"),
        "compile": gpu if compile is None else compile,
        "workers": (min(16, cores) if gpu else 1) if workers is None else workers,
    }
