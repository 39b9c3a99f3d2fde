"""The doctor's diagnosis as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hsnet_trt.export.doctor.diagnosis import Diagnosis

_MARKS = {"works": "[green]works", "missing": "[dim]not installed", "broken": "[red]broken"}


def diagnosis_tables(diagnosis: Diagnosis) -> Group:
    """Render a diagnosis: the machine, its libraries, and what it can do."""
    return Group(_machine(diagnosis), _libraries(diagnosis), _abilities(diagnosis))


def _machine(diagnosis: Diagnosis) -> Table:
    table = Table.grid(padding=(0, 2))
    driver = diagnosis.driver
    memory = diagnosis.memory_bytes
    rows = {
        "HSNet-TRT": diagnosis.version,
        "Python": diagnosis.python,
        "machine": diagnosis.jetson or diagnosis.platform,
        "CPU": f"{diagnosis.cpu}, {diagnosis.cores} cores"
        + (f", {memory / 2**30:.1f} GiB" if memory else ""),
        "driver": f"for CUDA {driver.cuda_version}"
        if driver.cuda_version
        else (driver.problem or "none"),
    }
    if driver.cuda_version and driver.problem:
        rows["GPU"] = driver.problem
    for gpu in driver.gpus:
        shared = ", shared with the CPU" if gpu.integrated else ""
        rows[f"GPU {gpu.index}"] = (
            f"{gpu.name}, compute capability {gpu.compute_capability}, "
            f"{gpu.memory_bytes / 2**30:.1f} GiB{shared}"
        )
    for name, value in rows.items():
        table.add_row(f"[bold]{name}", escape(value))
    return table


def _libraries(diagnosis: Diagnosis) -> Table:
    table = Table("library", "", "version", "", title="Libraries and tools", title_justify="left")
    for library in diagnosis.libraries:
        table.add_row(
            library.name, _MARKS[library.state], library.version or "", escape(library.detail or "")
        )
    for tool in diagnosis.tools:
        table.add_row(
            tool.name, _MARKS["works" if tool.path else "missing"], "", escape(tool.path or "")
        )
    return table


def _abilities(diagnosis: Diagnosis) -> Text:
    """As lines, not a table, so that a whole command can be copied."""
    text = Text("What this machine can do\n", style="italic")
    for ability in diagnosis.abilities:
        text.append(" yes " if ability.works else "  no ", "green" if ability.works else "yellow")
        text.append(ability.name, "bold not italic")
        text.append(f": {ability.how}\n", "not italic")
        if ability.fix:
            text.append(f"     mend it: {ability.fix}\n", "cyan not italic")
    return text
