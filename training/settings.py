"""The settings of a training run."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError

# May differ when a run is resumed: changes the speed, not the result.
_FREE = {"workers", "device", "compile", "root", "splits"}
_VALIDATION_SEED = 20_000  # separates validation from the training stream


@dataclass(frozen=True)
class Part:
    """A share of the batches, with its own size.

    Attributes:
        side: height and width of the images, in pixels.
        share: relative frequency; the shares need not sum to 1.
        batch: episodes per batch.
    """

    side: int
    share: float
    batch: int


@dataclass(frozen=True)
class Settings:
    """The settings of one training run. Defaults are the paper's where it gives a value.

    Attributes:
        data: names of the data (data.sources.SOURCES); several are used in turn.
        root, fold, splits: see data.sources.Source.
        backbone: vgg16, resnet18, resnet50, resnet101, efficientnet_lite0 or mobilenet_v2; None for
            that of `start_from`, else resnet50.
        backbone_weights: a torchvision state_dict or any checkpoint of that backbone.
        start_from: an HSNet checkpoint to start from.
        weights: which set of weights, if a checkpoint holds several: see `load_checkpoint`.
        train_backbone: train the backbone too; otherwise it is frozen, in eval mode.
        contrast: initial weight of the background contrast, which is trained; 0 for none. None
            takes that of `start_from`, if any.
        self_support: the same for self-support.
        size: (height, width) of the images, in pixels.
        sizes: train on several sizes, shrunk from `size`; needs `reuse` above 1. None: all images
            have `size`.
        steps: number of batches.
        minutes: time budget for learning, without validations; `steps` is then an upper limit, and
            the schedule follows the time.
        batch: episodes per batch.
        learning_rate: of Adam.
        clip: largest norm of the gradient; None: no limit.
        average: share of the weights' running mean that a step keeps; the mean is validated and
            saved. 0: no mean.
        schedule: "constant", as in the paper, or "cosine": a short warm-up, then down to zero (to
            2 % with `minutes`).
        both_ways: use each episode also with support and query swapped: nearly twice the pairs
            from the same features.
        augment: flips, warps and changes of colour.
        reuse: how often a drawn episode is used. Above 1, episodes are kept on the device.
        seed: of the initial weights and of all sampling.
        validate_every: steps between two validations.
        validation_episodes: episodes per validation; fewer if the dataset has fewer.
        skip_bad: skip episodes with broken files instead of stopping.
        precision: "fp32", or "bf16" for mixed precision.
        compile: compile the loss with torch.compile.
        workers: processes that draw episodes; 0 draws in this process.
        device: as PyTorch names it.

    Raises:
        InputError: a value is out of range, or two do not fit together.
    """

    data: tuple[str, ...]
    root: Path | None = None
    fold: int = 0
    splits: Path | None = None
    backbone: str | None = None
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
        self._check_ranges()
        if self.start_from and self.backbone_weights:
            raise InputError(
                "two sources of the backbone's weights are given",
                expected="--start-from, whose checkpoint holds them, or --backbone-weights",
                found=f"{self.start_from} and {self.backbone_weights}",
            )
        if self.batch % self.reuse:
            raise InputError(
                "the batch cannot be shared out",
                found=f"batch {self.batch}, reuse {self.reuse}",
                expected="a batch that is a multiple of reuse",
            )
        if self.train_backbone and self.batch < 2:
            raise InputError(
                "a backbone is not learned from one episode at a time",
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
                    f"there is no such {name}",
                    expected=" or ".join(choices),
                    found=getattr(self, name),
                )
        if self.sizes and (self.reuse == 1 or max(p.side for p in self.sizes) > min(self.size)):
            raise InputError(
                "batches of several sizes are shrunk from a pool of the largest",
                expected="reuse above 1, and no side above that of size",
                found=f"reuse {self.reuse}, size {self.size}, sides "
                f"{', '.join(str(part.side) for part in self.sizes)}",
            )

    def _check_ranges(self) -> None:
        """Raise InputError for a number out of its range; NaN is out of every range."""
        whole = ("steps", "batch", "reuse", "validate_every", "validation_episodes")
        ranges: tuple[tuple[tuple[str, ...], str, Callable[[float], bool]], ...] = (
            (whole, "1 or more", lambda value: value >= 1),
            (("seed", "workers"), "0 or more", lambda value: value >= 0),
            (("minutes", "clip"), "above 0", lambda value: value > 0),
            (("learning_rate",), "a finite number above 0", lambda value: 0 < value < math.inf),
            (("average",), "0 to 1", lambda value: 0 <= value <= 1),
        )
        for names, expected, right in ranges:
            for name in names:
                value = getattr(self, name)
                if value is not None and not right(value):
                    raise InputError(f"{name} makes no sense", expected=expected, found=value)
        for part in self.sizes or ():
            if not (part.side >= 1 and part.share > 0 and part.batch >= 1):
                raise InputError(
                    "a part of sizes makes no sense",
                    expected="a side and a batch of 1 or more, and a share above 0",
                    found=part,
                )

    def source(self, seed: int | None = None) -> Source:
        """The source of its episodes; another `seed` gives another stream."""
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
        """The source of the validation episodes, which do not depend on the seed."""
        return self.source(_VALIDATION_SEED)

    def facts(self) -> dict[str, Any]:
        """All settings as plain numbers, strings and lists, for checkpoints and logs."""
        plain: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            listed = list(value) if isinstance(value, tuple) else value
            plain[name] = str(listed) if isinstance(listed, Path) else listed
        plain["sizes"] = [list(dataclasses.astuple(part)) for part in self.sizes or ()]
        return plain

    def check_same(self, others: dict[str, Any]) -> None:
        """Refuse to resume a run with other settings.

        Raises:
            InputError: names the settings that differ.
        """
        own = self.facts()
        differing = [
            f"{name} {others.get(name)!r}, now {own[name]!r}"
            for name in own
            if name not in _FREE and others.get(name) != own[name]
        ]
        if differing:
            raise InputError(
                "the run to resume had other settings",
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
    """The fastest `device`, `precision`, `compile` and `workers` here, as fields of `Settings`.

    Arguments that are not None are kept. On a GPU: bf16, torch.compile, and one drawing process per
    core, at most 16. On a CPU, where training is slower than drawing: one drawing process.
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
