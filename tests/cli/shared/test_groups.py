"""Groups of options: typed as options of their own, handed to the verb as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hsnet_trt.cli.shared.groups import flatten
from hsnet_trt.cli.shared.options import Size, SizeOption, size_option
from hsnet_trt.errors import InputError

SEEN: list[object] = []


@dataclass(frozen=True)
class Paint:
    colour: str = "red"
    coats: Annotated[list[int] | None, typer.Option("--coat")] = None
    size: SizeOption = None


def wall(
    place: Path,
    *,
    first: bool = False,
    paint: Paint,
    door: Annotated[list[Size] | None, size_option(".")] = None,
) -> None:
    """Paint a wall."""
    SEEN.append((place, first, paint, door))


def run(*arguments: str) -> object:
    SEEN.clear()
    app = typer.Typer()
    app.command()(flatten(wall))
    CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
    (seen,) = SEEN
    return seen


def test_defaults() -> None:
    assert run("hall") == (Path("hall"), False, Paint(), None)


def test_every_option_arrives() -> None:
    typed = "--first --colour blue --coat 1 --coat 2 --size 3x4 --door 1x2 --door 5 hall"
    paint = Paint("blue", [1, 2], Size((3, 4)))
    assert run(*typed.split()) == (Path("hall"), True, paint, [(1, 2), (5, 5)])


def test_a_size_that_is_none_is_an_input_error() -> None:
    with pytest.raises(InputError, match="the size is not valid"):
        run("hall", "--size", "big")


def test_the_help_names_the_options_and_the_verb() -> None:
    app = typer.Typer()
    app.command()(flatten(wall))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for text in ("Paint a wall.", "--colour", "--coat", "--size", "480x640", "--first"):
        assert text in shown
    assert "--paint" not in shown
