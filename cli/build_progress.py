"""Progress bars of an engine build: one for the engines, one for each phase of the builder."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class BuildProgress:
    """Shows the events of `build_engine(on_event=...)`.

    with BuildProgress(console) as progress:
        build_engine(..., on_event=progress)
    """

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._engines: TaskID | None = None
        self._label = ""
        self._phases: dict[str, TaskID] = {}
        self._depth: dict[str, int] = {}

    def __enter__(self) -> BuildProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "engine":
            self._begin_engine(event)
        elif kind == "engine_end":
            self._end_engine(event)
        elif kind == "phase":
            depth = self._depth.get(event["parent"] or "", 0) + 1
            self._depth[event["phase"]] = depth
            name = f"{'  ' * depth}{escape(event['phase'])}"
            self._phases[event["phase"]] = self._bars.add_task(name, total=event["steps"])
        elif kind == "step" and event["phase"] in self._phases:
            self._bars.update(self._phases[event["phase"]], completed=event["step"] + 1)
        elif kind == "phase_end" and event["phase"] in self._phases:
            self._bars.remove_task(self._phases.pop(event["phase"]))
        elif kind == "log":
            self._bars.console.print(escape(event["text"]), style="dim", highlight=False)

    def _begin_engine(self, event: dict[str, Any]) -> None:
        self._label = event["label"]
        if self._engines is None:
            self._engines = self._bars.add_task("", total=event["total"])
        self._bars.update(
            self._engines, completed=event["number"] - 1, description=f"building {self._label}"
        )

    def _end_engine(self, event: dict[str, Any]) -> None:
        for task in self._phases.values():
            self._bars.remove_task(task)
        self._phases.clear()
        if self._engines is not None:
            self._bars.advance(self._engines)
        size = event["bytes"] / 2**20
        self._bars.console.print(
            f"[green]built[/] {self._label}: {size:.1f} MiB in {event['seconds']:.1f} s"
        )
