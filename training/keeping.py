"""The state of a run on disk, replaced atomically, so that a killed run leaves a complete file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hsnet_trt.errors import CheckpointError, InputError
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.model.weights_file import read_weights_file, write_weights_file
from hsnet_trt.training.averaging import Average
from hsnet_trt.training.settings import Settings

LAST, BEST = "last.pt", "best.pt"


@dataclass
class RunProgress:
    """How far a run is.

    All randomness derives from the seed and the number of a step or an episode, so no state of a
    random number generator needs to be saved.
    """

    step: int = 0  # steps done
    best_miou: float = -1.0  # percent; -1 before the first validation
    best_step: int = 0
    miou: float = -1.0  # of the last validation
    learned: int = 0  # episodes, counted each time they are used
    seconds: float = 0.0  # of learning, over all resumed parts, without validation


def facts_of(model: HSNet, settings: Settings) -> dict[str, Any]:
    """What a checkpoint of the run says of its network, for `load_checkpoint`.

    The threshold of presence depends on the backbone alone, so it holds as long as that is frozen.
    """
    threshold = 0.0 if settings.train_backbone else model.present_from
    return {"size": list(settings.size), "refine": model.refine, "present_from": threshold}


def save_run(
    out: Path,
    model: HSNet,
    optimizer: torch.optim.Optimizer,
    now: RunProgress,
    settings: Settings,
    average: Average | None = None,
) -> None:
    """Write OUT/last.pt atomically; `load_checkpoint` can read its weights too.

    Raises:
        CheckpointError: the file could not be written.
    """
    state = {
        "backbone": model.name,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.means if average else [],
        "facts": {
            "trained": True,
            **facts_of(model, settings),
            "progress": vars(now),
            "settings": settings.facts(),
        },
    }
    write_weights_file(state, out / LAST)


def load_run(
    out: Path,
    model: HSNet,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    average: Average | None = None,
) -> RunProgress:
    """Load the state of OUT/last.pt into the network, the optimizer and the average.

    Raises:
        InputError: the run had other settings.
        CheckpointError: the file is missing, damaged, or not the state of a run.
    """
    path = out / LAST
    try:
        state = read_weights_file(path)
        facts = state["facts"]
        settings.check_same(facts["settings"])
        model.load_state_dict(state["state_dict"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load(state["average"])
        return RunProgress(**facts["progress"])
    except (InputError, CheckpointError):
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"training cannot resume from {path}",
            expected="what `hsnet-trt train` wrote there",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            fix="start a new run in another folder",
        ) from error


def check_folder(out: Path, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume one that does not exist.

    Raises:
        InputError: in both cases.
    """
    there = (out / LAST).is_file()
    if there and not resume:
        raise InputError(
            f"{out} holds a run already",
            fix="resume it: --resume; or choose another folder: --out",
        )
    if resume and not there:
        raise InputError(
            f"there is no run in {out} to resume",
            expected=str(out / LAST),
            found="none",
            fix="leave --resume out",
        )
