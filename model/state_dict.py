"""Find the weights of an HSNet in saved files: nested dicts, key prefixes, averaged copies.

HSNet's keys are recognised by their endings (`hpn_learner.*`, `backbone.*`, and those of parts that
are not in the paper). Their common prefix, made of dict names and key prefixes, is removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hsnet_trt.errors import CheckpointError, warn
from hsnet_trt.model.mobilenet import torchvision_names

# Of DataParallel and DeepSpeed, torch.compile, FSDP, activation checkpointing; anywhere in a key.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# One key of each kind of backbone: the first one, except for ResNets, where it is too common.
_BACKBONE = re.compile(
    r"(?P<before>.*?\.)??(backbone\.)?"
    r"(layer1\.0\.conv1\.weight|features\.0\.weight|features\.0\.0\.weight|_conv_stem\.weight)$"
)
_LEARNER = re.compile(r"(?P<before>.*?\.)??hpn_learner\.")
# Parts of published backbones that HSNet does not use.
_UNUSED = re.compile(r"backbone\.(fc|classifier|avgpool|features\.18|_conv_head|_bn1|_fc)\.")
_BEYOND = ("contrast.weight", "self_support.weight")  # parts that are not in the paper
# Entries that `save_checkpoint` and `hsnet-trt train` write beside the weights.
_OURS = ("backbone", "facts", "optimizer", "average")
_DEPTH = 6  # of nested dicts; a pickled dict may contain itself


@dataclass
class _Found:
    """The weights under one prefix of the file."""

    prefix: str  # such as "state_dict.model."; "" if there is none
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.prefix.rstrip(".") or "(no prefix)"

    def is_called(self, name: str) -> bool:
        """Whether `name` is the prefix, one of its parts, or a word of one (ema in ema_model)."""
        parts = self.name.split(".")
        return name in (self.name, *parts, *(word for part in parts for word in part.split("_")))


def find_weights(content: Any, path: object, choice: str | None = None) -> dict[str, Tensor]:
    """The state_dict of an HSNet, or of a backbone alone.

    Args:
        content: what the file holds: dicts of tensors, nested up to 6 deep.
        path: the file, for messages.
        choice: which set of weights if there are several: a part of its prefix, such as "ema".

    Returns:
        tensors by HSNet's own keys (`backbone.*`, `hpn_learner.*`), without classifiers.

    Raises:
        CheckpointError: no tensors, neither an HSNet nor a backbone, or `choice` does not name
            exactly one set.

    Warns:
        HSNetWarning: the file has other entries, or other sets of weights to choose from.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} is not a state_dict",
            expected="a dict of tensors",
            found=type(content).__name__,
        )
    values = _flat(content)
    tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights",
            expected="a dict of tensors",
            found=f"other things at {_some(list(values))}" if values else "an empty dict",
            fix="save the network's weights: torch.save(model.state_dict(), PATH)",
        )
    places = _places(tensors)
    if not places:
        raise CheckpointError(
            f"{path} does not hold an HSNet",
            expected="keys that end in those of an HSNet (backbone.*, hpn_learner.*), "
            "or of a backbone as torchvision names them",
            found=f"keys such as {_some(list(tensors))}",
            fix="pass an HSNet checkpoint, or a torchvision state_dict of one of its backbones",
        )
    taken = _choose(places, path, choice)
    _note_ignored(content, values, places, taken, path)
    used = {key: value for key, value in taken.state.items() if not _UNUSED.match(key)}
    return torchvision_names(used)


def _flat(content: Mapping[Any, Any], before: str = "", depth: int = _DEPTH) -> dict[str, Any]:
    """Every value by its dotted path, without the names of wrappers."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        parts = (part for part in str(key).split(".") if part not in _WRAPPERS)
        name = before + ".".join(parts)
        if isinstance(value, Mapping) and depth:
            inner = name + "." if name and not name.endswith(".") else name
            found |= _flat(value, inner, depth - 1)
        else:
            found[name] = value
    return found


def _places(tensors: Mapping[str, Tensor]) -> list[_Found]:
    """Every HSNet in the file, in file order; if there is none, every backbone."""
    for kind in (_LEARNER, _BACKBONE):
        prefixes = dict.fromkeys(m["before"] or "" for key in tensors if (m := kind.match(key)))
        if prefixes:
            return [
                _Found(prefix, _below(prefix, tensors, alone=kind is _BACKBONE))
                for prefix in prefixes
            ]
    return []


def _below(prefix: str, tensors: Mapping[str, Tensor], *, alone: bool) -> dict[str, Tensor]:
    """The entries under a prefix, by HSNet's keys.

    For a file without a squeeze network (`alone`), all entries are kept: keys beyond those of a
    backbone show that it is another network, which must not be taken for a backbone.
    """
    state = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    parts = ("backbone.", "hpn_learner.")
    ours = {k: v for k, v in state.items() if k.startswith(parts) or k in _BEYOND}
    if not alone:
        return ours
    if ours:
        return state
    return {f"backbone.{key}": value for key, value in state.items()}


def _choose(places: list[_Found], path: object, choice: str | None) -> _Found:
    names = ", ".join(place.name for place in places)
    if choice is not None:
        fitting = [place for place in places if place.is_called(choice)]
        if len(fitting) != 1:
            raise CheckpointError(
                f"{path} holds {'no' if not fitting else 'several'} weights called {choice!r}",
                expected=f"one of: {names}",
                found=", ".join(place.name for place in fitting) or None,
                fix="name one of these with --weights (weights= in Python)",
            )
        return fitting[0]
    plain = [place for place in places if not place.is_called("ema")]
    taken = (plain or places)[0]
    if len(places) > 1:
        others = [place.name for place in places if place is not taken]
        warn(
            f"{path} holds {len(places)} sets of weights: {taken.name} was taken; choose "
            f"{' or '.join(others)} with --weights (weights= in Python)"
        )
    return taken


def _note_ignored(
    content: Mapping[Any, Any],
    values: Mapping[str, Any],
    places: list[_Found],
    taken: _Found,
    path: object,
) -> None:
    used = {place.prefix + key for place in places for key in place.state}
    used |= {
        place.prefix + key.removeprefix("backbone.") for place in places for key in place.state
    }
    rest = [key for key in values if key not in used]
    if isinstance(content.get("facts"), Mapping):  # a file of ours
        rest = [key for key in rest if key.split(".")[0] not in _OURS]
    groups = Counter(_branch(key.split("."), taken.prefix.split(".")) for key in rest)
    if groups:
        listed = [f"{name} ({count})" if count > 1 else name for name, count in groups.items()]
        warn(f"{path} holds more than an HSNet; ignored: {_some(listed, 12)}")


def _branch(key: list[str], taken: list[str]) -> str:
    """The start of a key, up to the first part that differs from the path of the taken weights."""
    depth = next((i for i, (a, b) in enumerate(zip(key, taken, strict=False)) if a != b), 0)
    return ".".join(key[: depth + 1])


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
