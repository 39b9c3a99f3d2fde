"""What worker and parent send each other arrives as it was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsnet_trt.export.engines.events import (
    Done,
    Failed,
    LogLine,
    Message,
    PhaseEnded,
    PhaseStarted,
    StepDone,
    from_json,
    to_json,
)
from hsnet_trt.export.engines.options import COMPATIBILITY, BuilderOptions
from hsnet_trt.export.engines.worker import Job

MESSAGES = (
    PhaseStarted("Building", None, 7),
    PhaseStarted("Timing", "Building", 2),
    StepDone("Timing", 0),
    PhaseEnded("Timing"),
    LogLine('INFO: "quoted"\nand a second line, Größe'),
    Done({"version": "10.3.0", "seconds": 1.5, "layers": [{"count": 3}]}),
    Failed("the parser refused the graph"),
    Failed("no such file", 2, "caches/timing"),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_one_line_and_arrives_as_it_was_sent(message: Message) -> None:
    line = to_json(message)
    assert "\n" not in line
    assert from_json(line) == from_json(line.encode()) == message


@pytest.mark.parametrize(
    "line",
    ["", '{"event": "Done", "resu', "7", "[1]", "{}", '{"event": "Job"}', '{"event": "LogLine"}'],
)
def test_a_line_that_holds_no_message(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


@pytest.mark.parametrize(
    "options",
    [
        BuilderOptions(),
        BuilderOptions(2**31, Path("caches", "timing"), True, next(iter(COMPATIBILITY)), 5, True),
    ],
)
def test_a_job_arrives_with_its_options(options: BuilderOptions) -> None:
    shapes = {"image": [[1, 3, 64, 64], [2, 3, 64, 64], [4, 3, 64, 64]]}
    job = Job("build", "tensorrt", "graph.onnx", "out.engine", shapes, ["SM89"], options, "fp16")
    assert Job.from_json(job.to_json()) == job
