"""Reading and writing checkpoints: the authors', our own, and torchvision's backbones.

Nothing is ever unpickled freely: `weights_only=True` admits tensors and plain containers alone.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hsnet_trt.errors import CheckpointError, HSNetWarning
from hsnet_trt.model.hsnet import BACKBONES, HSNet
from hsnet_trt.model.resnet import STRUCTURE

# The model that comes with the package: EfficientNet-Lite0, learned at 256, 320 and 400; see
# model.json beside it.
SHIPPED = Path(__file__).parent / "shipped" / "model.pt"
# Parts of published backbones that HSNet does not use.
_UNUSED = re.compile(r"backbone\.(fc|classifier|avgpool|_conv_head|_bn1|_fc)\.")
# Counters that files written by early PyTorch lack; inference does not use them.
_OPTIONAL = re.compile(r".*\.num_batches_tracked$")


def load_checkpoint(path: str | os.PathLike[str], backbone: str | None = None) -> HSNet:
    """Read an HSNet from a file; which backbone it has is found from the keys.

    Taken are the authors' `best_model.pt` (with or without `module.` and the classifier),
    files of `save_checkpoint` and of `hsnet-trt train`, and a plain torchvision backbone file,
    which leaves the squeeze network random, with a warning.

    Args:
        path: the file; "shipped" is the model that comes with the package.
        backbone: what it must be, where that is known.

    Returns:
        the network in float32 on the CPU, in eval mode.

    Raises:
        CheckpointError: not readable without running code, of another architecture, or with
            missing, unexpected or mis-shaped keys, which are named.
    """
    path = SHIPPED if str(path) == "shipped" else Path(path)
    content, facts = _read(path)
    state = _normalised(content, path)
    found = find_backbone(state)
    if found is None or backbone not in (None, found):
        raise CheckpointError(
            f"{path} does not hold {'an HSNet' if found is None else 'that backbone'}",
            expected=backbone or f"an HSNet with one of {', '.join(BACKBONES)}",
            found=found or f"keys such as {', '.join(list(state)[:4]) or '(none)'}",
            fix="pass an HSNet checkpoint, or a torchvision state_dict of one of these backbones",
        )
    model = HSNet(found)
    wanted = model.state_dict()
    model.trained = bool(facts.get("trained", True))
    size = facts.get("size")
    model.size = (size, size) if isinstance(size, int) else None
    if not any(key.startswith("hpn_learner.") for key in state):
        model.trained = False
        warnings.warn(
            f"{path} holds a backbone only: the squeeze network is left random",
            HSNetWarning,
            stacklevel=2,
        )
        wanted = {key: value for key, value in wanted.items() if key.startswith("backbone.")}
    _compare(state, wanted, path)
    model.load_state_dict({key: state[key].float() for key in wanted if key in state}, strict=False)
    return model.eval()


def save_checkpoint(
    model: HSNet, path: str | os.PathLike[str], *, half: bool = False, **facts: Any
) -> None:
    """Write a checkpoint that `load_checkpoint` reads; an older file is replaced only when done.

    Args:
        model: the network.
        path: the file.
        half: store floating-point weights in 16 bits.
        facts: plain numbers, strings, lists and dicts to keep beside the weights.

    Whether the weights are trained (`model.trained`) is kept as well.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.half() if half and value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    kept = {"trained": model.trained, **facts}
    scratch = target.with_name(f".{target.name}.partial")
    try:
        torch.save({"backbone": model.name, "state_dict": state, "facts": kept}, scratch)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def find_backbone(state: dict[str, Tensor]) -> str | None:
    """The backbone that a normalised state_dict belongs to, from its keys; None if none of ours."""
    if "backbone.features.0.weight" in state:
        return "vgg16"
    if "backbone._conv_stem.weight" in state:
        return "efficientnet_lite0"
    blocks = {m.groups() for key in state if (m := re.match(r"backbone\.layer(\d)\.(\d+)\.", key))}
    depths = tuple(sum(level == str(i) for level, _ in blocks) for i in (1, 2, 3, 4))
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    for name, structure in STRUCTURE.items():
        if depths == structure and bottleneck == (name != "resnet18"):
            return name
    return None


def weights_sha256(model: HSNet) -> str:
    """A hash of the weights, whatever file they came from: of names, shapes and float32 values."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not _OPTIONAL.match(key):
            digest.update(f"{key}{list(value.shape)}".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state_dict of a file, and the facts that `save_checkpoint` put beside it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {path}", fix="check the path") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of plain tensors",
            expected="a state_dict (torch.save of tensors in dicts)",
            found=str(error).splitlines()[0][:200],
            fix="it may hold code, which is never run: save its state_dict alone",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read",
            expected="a whole PyTorch checkpoint",
            found=f"{path.stat().st_size if path.is_file() else 0} bytes: {str(error)[:200]}",
            fix="the file is cut off or damaged: copy or download it again",
        ) from error
    facts: dict[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        if isinstance(content.get("facts"), dict):
            facts = content["facts"]
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} is not a state_dict",
            expected="a dict of tensors",
            found=type(content).__name__,
        )
    return content, facts


def _normalised(content: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Keys without `module.`, with `backbone.` before a plain backbone's, the unused ones gone."""
    strangers = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers or not content:
        raise CheckpointError(
            f"{path} is not a state_dict",
            expected="a dict of tensors",
            found=f"other things at {strangers[:4]}" if strangers else "an empty dict",
        )
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    if not any(key.startswith(("backbone.", "hpn_learner.")) for key in state):
        state = {f"backbone.{key}": value for key, value in state.items()}
    return {key: value for key, value in state.items() if not _UNUSED.match(key)}


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
