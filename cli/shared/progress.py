"""Progress bars: of work that names its steps, of engine builds, and their common set-up."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hsnet_trt.export.engines.events import (
    BuildEvent,
    EngineBuilt,
    EngineStarted,
    LogLine,
    PhaseEnded,
    PhaseStarted,
    StepDone,
)


def progress_bars(console: Console, *, stays: bool = False) -> Progress:
    """Bars as every verb shows them: what is done, how much of it, the time.

    With `stays`, they show the time that is left, too, and remain on the screen at the end.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if stays else []),
    )
    return Progress(*columns, console=console, transient=not stays)


class StepBar:
    """Called with (what is being done, steps done, steps in all) before each step."""

    def __init__(self, console: Console) -> None:
        self._bar = progress_bars(console)
        self._task = self._bar.add_task("")

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=what, completed=done, total=total)

    def __enter__(self) -> StepBar:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


class BuildProgress:
    """Shows the events of `build_engine(on_event=...)`: engines, and phases of the builder.

    with BuildProgress(console) as progress:
        build_engine(..., on_event=progress)
    """

    def __init__(self, console: Console) -> None:
        self._bars = progress_bars(console)
        self._engines: TaskID | None = None
        self._label = ""
        self._phases: dict[str, TaskID] = {}
        self._depth: dict[str, int] = {}

    def __enter__(self) -> BuildProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def __call__(self, event: BuildEvent) -> None:
        """Show one event."""
        match event:
            case EngineStarted():
                self._begin_engine(event)
            case EngineBuilt():
                self._end_engine(event)
            case PhaseStarted(phase, parent, steps):
                depth = self._depth.get(parent or "", 0) + 1
                self._depth[phase] = depth
                name = f"{'  ' * depth}{phase}"
                self._phases[phase] = self._bars.add_task(name, total=steps)
            case StepDone(phase, step) if phase in self._phases:
                self._bars.update(self._phases[phase], completed=step + 1)
            case PhaseEnded(phase) if phase in self._phases:
                self._bars.remove_task(self._phases.pop(phase))
            case LogLine(text):
                self._bars.console.print(text, style="dim", highlight=False)

    def _begin_engine(self, event: EngineStarted) -> None:
        self._label = event.label
        if self._engines is None:
            self._engines = self._bars.add_task("", total=event.total)
        self._bars.update(
            self._engines, completed=event.number - 1, description=f"building {self._label}"
        )

    def _end_engine(self, event: EngineBuilt) -> None:
        for task in self._phases.values():
            self._bars.remove_task(task)
        self._phases.clear()
        if self._engines is not None:
            self._bars.advance(self._engines)
        size = event.bytes / 2**20
        text = f" {self._label}: {size:.1f} MiB in {event.seconds:.1f} s"
        self._bars.console.print(Text.assemble(("built", "green"), text))
