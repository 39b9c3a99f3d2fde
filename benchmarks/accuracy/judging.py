"""Judge a bundle or a checkpoint on a source of episodes, and write the report."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hsnet_trt import __version__
from hsnet_trt.benchmarks.accuracy.accuracy import Accuracy, OnEpisode, evaluate
from hsnet_trt.benchmarks.accuracy.answers import (
    BundleNetwork,
    JudgedNetwork,
    TorchNetwork,
)
from hsnet_trt.benchmarks.accuracy.emulated_bundle import SUFFIX, emulated_bundle
from hsnet_trt.benchmarks.accuracy.report import write_report
from hsnet_trt.benchmarks.accuracy.trivial import trivial_answers
from hsnet_trt.data.episodes.episode import Skipped
from hsnet_trt.data.episodes.forms import in_form
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.bundle import Bundle

_SIZE = (400, 400)  # the paper's
_ONE_CLASS = {"folder", "fss"}  # sources whose pictures show one class each


def judge(
    model: Path,
    source: Source,
    out: Path,
    *,
    checkpoint: Path | None = None,
    weights: str | None = None,
    contrast: float | None = None,
    self_support: float | None = None,
    refine: bool | None = None,
    size: tuple[int, int] | None = None,
    backend: str = "auto",
    precisions: Sequence[str | None] = (None,),
    device: str = "cpu",
    original_size: bool = False,
    form: str = "clean",
    count: int | None = None,
    skip_bad: bool = False,
    command: str = "",
    on_episode: OnEpisode = lambda what, done, total: None,
) -> Accuracy:
    """Judge a bundle, a checkpoint, or a bundle beside its checkpoint, and write a report.

    Args:
        model: a bundle's folder, a checkpoint's file, or "shipped".
        source: the source of episodes; its size is replaced by the network's.
        out: the folder for accuracy.json, accuracy.md and accuracy.png.
        checkpoint: the checkpoint that the bundle was exported from, whose PyTorch FP32 answers
            then are the reference.
        weights: which set of a checkpoint that holds several: see `load_checkpoint`.
        contrast, self_support: of the checkpoint: see `load_checkpoint`.
        refine: whether masks' edges are refined: see `pictures.guided_filter`; None takes the
            setting of the bundle or the checkpoint.
        size: network input; by default the bundle's first size, else the size that the checkpoint
            was trained for, else the paper's 400 x 400.
        backend: of the bundle.
        precisions: of the bundle, one network each; None is its default. "fp16-emulated" gives the
            answers of FP16 arithmetic on a CPU: see `emulated_bundle`.
        device: of PyTorch.
        original_size: judge at the queries' own size.
        form: of the episodes: see `data.episodes.forms`.
        count: number of episodes; by default the protocol's, else 1000.
        skip_bad: skip broken files, and list them.
        command: the command line to record.
        on_episode: called before each episode.

    Raises:
        InputError: broken data, a checkpoint with other weights than the bundle's, or an argument
            that the model has no use for.
        BundleError, BackendError, CheckpointError: the bundle or checkpoint cannot be opened.
    """
    if form != "clean" and (original_size or not _ONE_CLASS.issuperset(source.names)):
        raise InputError(
            f"{' and '.join(source.names)} cannot be judged as {form}",
            expected="folder or fss, whose pictures show one class each, at the network's size",
            found=f"{', '.join(source.names)}{', at the original size' if original_size else ''}",
        )
    model = _shipped(model)
    compared = checkpoint and _shipped(checkpoint)
    if model.is_file():
        if checkpoint is not None:
            raise InputError(
                f"{model} and {checkpoint} are both checkpoints",
                expected="a bundle, and its checkpoint",
                fix="leave --checkpoint out",
            )
        compared = model
        _check_no_use(
            model,
            "is a checkpoint, which PyTorch runs in fp32",
            {
                "--backend": None if backend == "auto" else backend,
                "--precision": next((p for p in precisions if p is not None), None),
            },
        )
    with contextlib.ExitStack() as opened:
        networks: list[JudgedNetwork] = []
        hashed: str | None = None
        if not model.is_file():
            bundle = Bundle.open(model)
            hashed = bundle.manifest.model.weights_sha256
            if compared is None:
                _check_no_use(
                    model,
                    "is a bundle, whose weights are fixed, without a checkpoint",
                    {
                        "--weights": weights,
                        "--contrast": contrast,
                        "--self-support": self_support,
                        "--device": None if device == "cpu" else device,
                    },
                )
            for precision in precisions:
                if precision is not None and precision.endswith(SUFFIX):
                    of = precision.removesuffix(SUFFIX)
                    path = opened.enter_context(emulated_bundle(bundle, of))
                    network = BundleNetwork(path, "onnxruntime", of, size, refine)
                    network.name = f"{of}, emulated"
                else:
                    network = BundleNetwork(model, backend, precision, size, refine)
                opened.callback(network.close)
                networks.append(network)
                size = network.size
        if compared is not None:
            from hsnet_trt.model.checkpoint import load_checkpoint, weights_sha256

            found = load_checkpoint(
                compared, weights=weights, contrast=contrast, self_support=self_support
            )
            torch_network, own = TorchNetwork(found, device), weights_sha256(found)
            if refine is not None:
                torch_network.refine = refine
            elif not model.is_file():
                torch_network.refine = bundle.manifest.refine
            if hashed not in (None, own):
                raise InputError(
                    f"{model} was not made from {compared}",
                    expected=f"weights with the hash {hashed}",
                    found=own,
                    fix="give the checkpoint that it was exported from",
                )
            hashed = own
            networks.insert(0, torch_network)
            size = size or torch_network.size
        source = dataclasses.replace(source, size=size or _SIZE)
        skipped = Skipped() if skip_bad else None
        episodes = source.open("test", original_size=original_size, skipped=skipped)
        episodes = in_form(episodes, form, source.seed)
        accuracy = evaluate(
            networks,
            trivial_answers(networks[0]),
            episodes,
            count=count,
            skip_bad=skipped,
            original_size=original_size,
            form=form,
            on_episode=on_episode,
        )
        facts = {
            "command": command,
            "weights_sha256": hashed,
            "hsnet_trt": __version__,
            "seed": source.seed,
        }
        write_report(accuracy, networks, episodes, out, facts)
    return accuracy


def _check_no_use(model: Path, what: str, options: dict[str, object]) -> None:
    """Raise InputError if an option is given (is not None) that the model has no use for."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(
            f"{model} {what}: it has no use for {' and '.join(given)}",
            fix="leave it out",
        )


def _shipped(path: Path) -> Path:
    """The file behind the name "shipped"; torch is imported only for that."""
    if str(path) != "shipped":
        return path
    from hsnet_trt.model.checkpoint import SHIPPED

    return SHIPPED
