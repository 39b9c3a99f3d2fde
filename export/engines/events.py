"""Events of a build, for progress bars and between worker and parent.

The worker writes `Message`s to its parent, one JSON object per line; `build_engine(on_event=...)`
is called with `BuildEvent`s.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args


@dataclass(frozen=True)
class EngineStarted:
    """The build of engine `number` (from 1) of `total` begins."""

    label: str
    number: int
    total: int


@dataclass(frozen=True)
class EngineBuilt:
    """The engine that was started last is written to the bundle."""

    bytes: int
    seconds: float


@dataclass(frozen=True)
class PhaseStarted:
    """A phase of TensorRT's builder begins; phases nest."""

    phase: str
    parent: str | None
    steps: int


@dataclass(frozen=True)
class StepDone:
    """A step (from 0) of a phase is complete."""

    phase: str
    step: int


@dataclass(frozen=True)
class PhaseEnded:
    """A phase ends, possibly before its last step."""

    phase: str


@dataclass(frozen=True)
class LogLine:
    """A line of the builder's log, or a note of ours."""

    text: str


@dataclass(frozen=True)
class Done:
    """The worker's last message: its job succeeded."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The worker's last message: its job failed; `errno` and `path` are set for a file error."""

    problem: str
    errno: int | None = None
    path: str | None = None


Progress: TypeAlias = PhaseStarted | StepDone | PhaseEnded | LogLine
BuildEvent: TypeAlias = EngineStarted | EngineBuilt | Progress
Message: TypeAlias = Progress | Done | Failed
OnEvent: TypeAlias = Callable[[BuildEvent], None]


def to_json(message: Message) -> str:
    """A message as one line of JSON, with the name of its class under `event`."""
    return json.dumps({"event": type(message).__name__, **dataclasses.asdict(message)})


def from_json(line: str | bytes) -> Message:
    """The message in a line that `to_json` wrote.

    Raises:
        ValueError: the line is no message, for example because the worker died while writing it.
    """
    fields = json.loads(line)
    kinds = {kind.__name__: kind for kind in get_args(Message)}
    try:
        message: Message = kinds[fields.pop("event")](**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a message of the worker: {fields}") from error
    return message
