"""What progress bars and consoles show of names that look like rich's markup."""

from __future__ import annotations

import io

import pytest

from hsnet_trt.cli.shared.console import plain_console
from hsnet_trt.cli.shared.progress import BuildProgress, StepBar
from hsnet_trt.export.engines.events import LogLine, PhaseStarted

ODD = "[/b] [bold]x :cat:"


@pytest.mark.parametrize("event", [LogLine(ODD), PhaseStarted(ODD, None, 3)])
def test_a_build_shows_names_as_they_are(event: LogLine | PhaseStarted) -> None:
    stream = io.StringIO()
    with BuildProgress(plain_console(file=stream, width=200, force_terminal=True)) as progress:
        progress(event)
    assert ODD in stream.getvalue()


def test_a_bar_shows_names_as_they_are() -> None:
    stream = io.StringIO()
    console = plain_console(file=stream, width=200, force_terminal=True)
    with StepBar(console) as bar:
        bar(ODD, 1, 3)
    assert ODD in stream.getvalue()
