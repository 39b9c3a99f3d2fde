"""The console of every verb."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def plain_console(**options: Any) -> Console:
    """A console that prints texts as they are.

    Names of files, classes and layers may hold what rich takes for its markup, as `mug[old].png`,
    or for an emoji.
    """
    return Console(markup=False, emoji=False, **options)
