"""The training loop: episodes in, a checkpoint out."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.sheet import episode_sheet
from hsnet_trt.errors import HSNetError, HSNetWarning, InputError
from hsnet_trt.model.checkpoint import load_checkpoint, save_checkpoint
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.training.averaging import Average
from hsnet_trt.training.batches import Batch, normalise
from hsnet_trt.training.keeping import (
    BEST,
    RunProgress,
    check_folder,
    facts_of,
    load_run,
    save_run,
)
from hsnet_trt.training.objective import Objective
from hsnet_trt.training.reporting import Bar, Journal, open_bar
from hsnet_trt.training.settings import Settings
from hsnet_trt.training.supply import batches_of, views
from hsnet_trt.training.validation import Validation, answer_batch

SHEET = "episodes.png"
_BACKBONE = "resnet50"  # the paper's; the default
_SAVE_SECONDS = 120.0  # between two saves of the state, besides those at validations
_LOOK_EVERY = 20  # steps between two reads of the loss; each makes the GPU wait
_LOOK_SECONDS = 30.0  # the same with a time budget, or a slow machine would never save
_RISE_STEPS, _LAST_RATE = 150, 0.02  # cosine over time: warm-up steps, final share of the rate
_RISE = 0.05  # cosine over steps: share of the steps that is warm-up


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        checkpoint: the best network's file.
        miou: its validation mIoU, in percent.
        step: the step at which it was saved.
        steps: steps done in total.
        episodes_per_second: mean rate of learning, without validation.
        skipped: the broken episodes that were left out.
    """

    checkpoint: Path
    miou: float
    step: int
    steps: int
    episodes_per_second: float
    skipped: Skipped


def train(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    bar: Bar | None = None,
    command: str = "",
) -> Trained:
    """Train, and keep the network with the best validation mIoU in OUT/best.pt.

    OUT also gets last.pt (the state to resume from), log.jsonl, TensorBoard's files and
    episodes.png. A run that was killed and resumed ends with the same weights as an uninterrupted
    one on the same device, unless its budget is time (`minutes`).

    Args:
        settings: the data, the network and the recipe.
        out: the run's folder.
        resume: continue the run in `out`.
        bar: shows the progress; by default a bar or lines on stderr.
        command: the command line, stored beside the weights.

    Raises:
        InputError: invalid settings, a folder that already holds a run, or broken data.
        CheckpointError: weights that cannot be read or written, or do not fit.
        HSNetError: the loss is not finite.
    """
    check_folder(out, resume)
    device = _device(settings.device)
    model = first_model(settings).to(device)
    objective = Objective(
        model, train_backbone=settings.train_backbone, both_ways=settings.both_ways
    )
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, settings.learning_rate)
    average = Average(learned, settings.average) if settings.average else None
    now = load_run(out, model, optimizer, settings, average) if resume else RunProgress()
    skipped = Skipped()
    leave_out = skipped if settings.skip_bad else None
    validation = Validation(
        settings.validation_source.open("val", skipped=leave_out),
        settings.validation_episodes,
        leave_out,
    )
    batches = batches_of(settings, now.step, device, skipped)
    out.mkdir(parents=True, exist_ok=True)
    bar = bar or open_bar()
    journal = Journal(out, now.step)
    if journal.missing:
        bar.note(f"{journal.missing} is not installed: figures go to {out / 'log.jsonl'} alone")
    run = _Run(
        settings, out, model, objective, optimizer, average, now, validation, bar, journal, command
    )
    try:
        run.learn(batches, device)
        best = load_checkpoint(out / BEST).to(device)
        shown = validation.first(8)
        answers = [answer_batch(best, [episode], device)[0] for episode in shown]
        episode_sheet(shown, answers).save(out / SHEET)
    finally:
        bar.close()
        journal.close()
    rate = now.learned / max(now.seconds, 1e-9)
    return Trained(out / BEST, now.best_miou, now.best_step, now.step, rate, skipped)


def first_model(settings: Settings) -> HSNet:
    """The network that a run starts from.

    Raises:
        InputError: the backbone is frozen but has no weights.
        CheckpointError: weights that cannot be read or do not fit.
    """
    if not (settings.train_backbone or settings.backbone_weights or settings.start_from):
        raise InputError(
            "a frozen backbone with random weights gives features that mean nothing",
            fix="give its weights with --backbone-weights, or learn them with --train-backbone",
        )
    if settings.start_from is not None:
        return load_checkpoint(
            settings.start_from,
            settings.backbone,
            weights=settings.weights,
            contrast=settings.contrast,
            self_support=settings.self_support,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = settings.backbone or _BACKBONE
        model = HSNet(backbone, settings.contrast or 0.0, settings.self_support or 0.0)
    if settings.backbone_weights is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HSNetWarning)  # about the missing squeeze network
            loaded = load_checkpoint(settings.backbone_weights, backbone, weights=settings.weights)
        model.backbone.load_state_dict(loaded.backbone.state_dict())
    return model


def learning_rate(settings: Settings, step: int, seconds: float = 0.0) -> float:
    """The rate at `step` (from 0); with a time budget, after `seconds` of learning."""
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.minutes is not None:
        done = min(1.0, seconds / (60 * settings.minutes))
        rate = settings.learning_rate * min(1.0, (step + 1) / _RISE_STEPS)
        return rate * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
    rise = max(1, round(_RISE * settings.steps))
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    done = (step - rise) / max(1, settings.steps - rise)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class _Run:
    settings: Settings
    out: Path
    model: HSNet
    objective: Objective
    optimizer: torch.optim.Optimizer
    average: Average | None
    now: RunProgress
    validation: Validation
    bar: Bar
    journal: Journal
    command: str

    def learn(self, batches: Iterator[Batch], device: torch.device) -> None:
        settings, now = self.settings, self.now
        self._prepare(device)
        loss_of = torch.compile(self.objective) if settings.compile else self.objective
        self.objective.train()
        clock = saved = time.monotonic()
        losses: list[torch.Tensor] = []
        episodes = 0
        figures = ""
        for batch in batches:
            seconds = now.seconds + time.monotonic() - clock
            rate = learning_rate(settings, now.step, seconds)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            images, masks = views(batch, settings, now.step)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = loss_of(normalise(images), masks)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.objective.parameters(), settings.clip)
            self.optimizer.step()
            now.step += 1
            if self.average is not None:
                self.average.update(now.step)
            now.learned += len(batch)
            episodes += len(batch)
            losses.append(loss.detach())
            last = now.step == settings.steps or self._is_over(seconds)
            ends = last or now.step % settings.validate_every == 0
            slow = settings.minutes is not None and time.monotonic() - clock > _LOOK_SECONDS
            if ends or slow or now.step % _LOOK_EVERY == 0:
                mean = float(torch.stack(losses).mean())
                elapsed = time.monotonic() - clock
                now.seconds += elapsed
                speed = episodes / max(elapsed, 1e-9)
                losses.clear()
                episodes = 0
                self._check(mean)
                self.journal.write(
                    now.step, loss=mean, learning_rate=rate, episodes_per_second=speed
                )
                figures = f"loss {mean:.3f}  {self._miou()}  {speed:.1f} episodes/s"
                if ends:
                    self._validate(device)
                if ends or time.monotonic() - saved > _SAVE_SECONDS:
                    save_run(self.out, self.model, self.optimizer, now, settings, self.average)
                    saved = time.monotonic()
                clock = time.monotonic()
            if settings.minutes is None:
                self.bar.update(now.step, settings.steps, figures)
            else:
                self.bar.update(round(seconds), round(60 * settings.minutes), figures)
            if last:
                return

    def _is_over(self, seconds: float) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and seconds >= 60 * minutes

    def _prepare(self, device: torch.device) -> None:
        if device.type != "cuda":
            return
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        self.model.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise HSNetError(
                f"the loss is {loss} after {self.now.step} steps",
                expected="a finite number",
                fix="lower --learning-rate, and resume from the last state with --resume",
            )

    def _miou(self) -> str:
        return "mIoU -" if self.now.miou < 0 else f"mIoU {self.now.miou:.1f}"

    def _validate(self, device: torch.device) -> None:
        now = self.now
        start = time.monotonic()
        with self.average.in_place() if self.average else contextlib.nullcontext():
            better = self._judge(device)
        self.objective.train()
        self.bar.note(
            f"step {now.step}: mIoU {now.miou:.2f} on {self.validation.name}"
            f"{', the best so far' if better else f' (best {now.best_miou:.2f})'}"
            f" ({time.monotonic() - start:.0f} s)"
        )

    def _judge(self, device: torch.device) -> bool:
        """Validate; save the network if it is the best so far, and return whether it is."""
        now = self.now
        now.miou = self.validation.miou(self.model, device, self.settings.batch)
        self.journal.write(now.step, validation_miou=now.miou)
        better = now.miou > now.best_miou
        if better:
            now.best_miou, now.best_step = now.miou, now.step
            self.model.trained = True
            save_checkpoint(
                self.model,
                self.out / BEST,
                validation_miou=now.miou,
                validated_on=self.validation.name,
                step=now.step,
                **facts_of(self.model, self.settings),
                settings=self.settings.facts(),
                command=self.command,
            )
        return better


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}", expected="cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "there is no GPU for PyTorch here", fix="leave --device out, or install its CUDA build"
        )
    return device
