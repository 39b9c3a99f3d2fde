"""Read and write checkpoints: the authors', our own, and torchvision's backbones."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hsnet_trt.errors import CheckpointError, warn
from hsnet_trt.model.hsnet import BACKBONES, HSNet
from hsnet_trt.model.resnet import STRUCTURE
from hsnet_trt.model.state_dict import find_weights
from hsnet_trt.model.weights_file import read_weights_file, write_weights_file

# The model that comes with the package: MobileNetV2, trained at 128 to 400 pixels; see model.json.
SHIPPED = Path(__file__).parent / "shipped" / "model.pt"
# Absent or 0 if the network has no such part.
CONTRAST, SELF_SUPPORT = "contrast.weight", "self_support.weight"
# Counters that files written by early PyTorch lack; inference does not use them.
_OPTIONAL = re.compile(r".*\.num_batches_tracked$")


def load_checkpoint(
    path: str | os.PathLike[str],
    backbone: str | None = None,
    *,
    weights: str | None = None,
    contrast: float | None = None,
    self_support: float | None = None,
) -> HSNet:
    """Read an HSNet from a file. The keys tell which backbone it has.

    Accepted: the authors' `best_model.pt`, files of `save_checkpoint` and of `hsnet-trt train`, and
    state_dicts under any prefix (`module.`, `_orig_mod.`, `model.`) or nested in the file's dicts
    (`model`, `ema`, Lightning's `state_dict`). A plain torchvision backbone is accepted too: the
    squeeze network then stays random, with a warning.

    Args:
        path: what `torch.save` wrote, or a `.safetensors` file; "shipped" is the model that comes
            with the package.
        backbone: the expected backbone; None accepts any.
        weights: which set of weights to load from a file that holds several: a part of their key
            prefix, such as "ema". By default the first set that is not an average ("ema").
        contrast: weight of the background contrast, replacing the file's value; 0 removes it. Files
            without a value have none.
        self_support: the same for `SelfSupport`.

    Returns:
        the network in float32 on the CPU, in eval mode.

    Raises:
        CheckpointError: not readable without running code; another architecture; missing,
            unexpected or mis-shaped keys (all are named); or invalid values (up to 8 tensors are
            named).

    Warns:
        HSNetWarning: the file holds other entries, several sets of weights, or no squeeze network.
    """
    path = SHIPPED if str(path) == "shipped" else Path(path)
    content = read_weights_file(path)
    facts, state = _facts(content), find_weights(content, path, weights)
    found = find_backbone(state)
    if found is None or backbone not in (None, found):
        raise CheckpointError(
            f"{path} does not hold {'an HSNet' if found is None else 'that backbone'}",
            expected=backbone or f"an HSNet with one of {', '.join(BACKBONES)}",
            found=found or "a backbone of other blocks, or none",
            fix="pass an HSNet checkpoint, or a torchvision state_dict of one of these backbones",
        )
    for key, weight in ((CONTRAST, contrast), (SELF_SUPPORT, self_support)):
        if weight is not None:
            state[key] = torch.tensor(float(weight))
        if key in state and _is_plain(state[key]) and not state[key].any():
            del state[key]
    # Only whether the weights are zero matters here; their values are loaded below.
    model = HSNet(found, float(CONTRAST in state), float(SELF_SUPPORT in state))
    wanted = model.state_dict()
    model.trained = bool(facts.get("trained", True))
    model.size = _size(facts.get("size"))
    threshold = facts.get("present_from")
    if isinstance(threshold, float) and 0 <= threshold <= 1:
        model.present_from = threshold
    model.refine = facts.get("refine") is True
    if not any(key.startswith("hpn_learner.") for key in state):
        model.trained = False
        warn(f"{path} holds a backbone only: the squeeze network is left random")
        wanted = {k: value for k, value in wanted.items() if not k.startswith("hpn_learner.")}
    _compare(state, wanted, path)
    _check_values(state, wanted, path)
    model.load_state_dict({key: state[key].float() for key in wanted if key in state}, strict=False)
    return model.eval()


def _size(fact: Any) -> tuple[int, int] | None:
    """(height, width) of a fact: one side of a square, or both."""
    sides = [fact, fact] if isinstance(fact, int) else fact
    if isinstance(sides, list) and len(sides) == 2 and all(isinstance(s, int) for s in sides):
        return (sides[0], sides[1])
    return None


def save_checkpoint(
    model: HSNet, path: str | os.PathLike[str], *, half: bool = False, **facts: Any
) -> None:
    """Write a checkpoint that `load_checkpoint` reads, atomically; missing folders are made.

    Args:
        model: the network; `model.trained` is stored too.
        path: the file.
        half: store floating-point weights in 16 bits.
        facts: plain numbers, strings, lists and dicts to store beside the weights.

    Raises:
        CheckpointError: a value does not fit into 16 bits, or the file could not be written, for
            example because the disk is full.
    """
    state = {
        key: value.half() if half and value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    if half:
        lost = [key for key, value in state.items() if not torch.isfinite(value).all()]
        if lost:
            raise CheckpointError(
                f"{path} cannot hold these weights in 16 bits",
                expected=f"finite values of magnitudes up to {torch.finfo(torch.half).max:g}",
                found=f"others in {', '.join(lost[:8])}",
                fix="store them in 32 bits (half=False)",
            )
    kept = {"trained": model.trained, **facts}
    content = {"backbone": model.name, "state_dict": state, "facts": kept}
    write_weights_file(content, Path(path))


def find_backbone(state: dict[str, Tensor]) -> str | None:
    """The backbone of a normalised state_dict, found from its keys; None if it is none of ours."""
    if "backbone.features.0.weight" in state:
        return "vgg16"
    if "backbone._conv_stem.weight" in state:
        return "efficientnet_lite0"
    if "backbone.features.0.0.weight" in state:
        return "mobilenet_v2"
    blocks = {m.groups() for key in state if (m := re.match(r"backbone\.layer(\d)\.(\d+)\.", key))}
    depths = tuple(sum(level == str(i) for level, _ in blocks) for i in (1, 2, 3, 4))
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    for name, structure in STRUCTURE.items():
        if depths == structure and bottleneck == (name != "resnet18"):
            return name
    return None


def weights_sha256(model: HSNet) -> str:
    """SHA-256 of the weights' names, shapes and float32 values, independent of the file format."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not _OPTIONAL.match(key):
            digest.update(f"{key}{list(value.shape)}".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _facts(content: Any) -> dict[str, Any]:
    """What `save_checkpoint` stored beside the weights; {} for files from elsewhere."""
    facts = content.get("facts") if isinstance(content, dict) else None
    return facts if isinstance(facts, dict) else {}


def _compare(
    state: dict[str, Tensor], wanted: dict[str, Tensor], path: str | os.PathLike[str]
) -> None:
    missing = [key for key in wanted if key not in state and not _OPTIONAL.match(key)]
    unexpected = [key for key in state if key not in wanted]
    misshaped = [
        f"{key} {list(state[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or unexpected or misshaped:
        kinds = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
        raise CheckpointError(
            f"{path} does not fit the network",
            expected=f"the {len(wanted)} keys of an HSNet",
            found="; ".join(
                f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in kinds.items() if keys
            ),
            fix="the checkpoint is of another architecture or incomplete: pass the right one",
        )


def _is_plain(value: Tensor) -> bool:
    odd = value.is_meta or value.is_complex() or value.is_quantized
    return not odd and value.layout == torch.strided


def _check_values(state: dict[str, Tensor], wanted: Iterable[str], path: Path) -> None:
    """Refuse values that would silently make every mask empty or full: NaN, infinity, variances.

    Single running variances of zero are legitimate: the channel never fires, or the value was too
    small for 16 bits. A tensor with nothing but zeros was never filled.
    """
    wrong = []
    for key in wanted:
        if key not in state:
            continue
        value = state[key]
        if not _is_plain(value):
            wrong.append(f"{key} is no plain tensor of real numbers")
            continue
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            wrong.append(f"{key}: {bad} of {value.numel()} are NaN or infinite")
        elif key.endswith(".running_var") and (int((value < 0).sum()) or not value.any()):
            wrong.append(f"{key}: variances from {value.min():g} to {value.max():g}")
    if wrong:
        raise CheckpointError(
            f"{path} holds values that are no weights",
            expected="finite numbers, and running variances above zero",
            found=f"{len(wrong)} tensors: " + "; ".join(wrong[:8]),
            fix="the training diverged or the file is damaged: take an earlier checkpoint",
        )
