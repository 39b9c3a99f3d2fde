"""`--lowering auto`: build every lowering of `match` in the bundle, and keep the fastest here.

Which one is fastest depends on the card and on what its TensorRT fuses, so it is measured, at each
size, on the GPU that the engines are for.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BackendError, BuildError, HSNetError
from hsnet_trt.export.build_engine import build_engine, choose_graphs
from hsnet_trt.export.engines.builder import choice_name
from hsnet_trt.export.engines.events import LogLine, OnEvent
from hsnet_trt.export.engines.options import EngineSpec
from hsnet_trt.export.engines.targets import Target, find_target
from hsnet_trt.runtime.bundle import Bundle, check_place, write_bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile
from hsnet_trt.runtime.device.driver import has
from hsnet_trt.runtime.device.machine import Driver, find_driver
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.lowering_choice import AUTO
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.verify import Verification, golden_of, verify_runner

Measure = Callable[[Bundle, Mapping[str, EngineFile]], float]


@dataclass(frozen=True)
class Form:
    """One lowering of `match` at one size: its time on this machine, or why it was left out."""

    size: tuple[int, int]
    lowering: str
    milliseconds: float | None = None  # median per frame
    left_out: str | None = None


class NothingRuns(BuildError):
    """Every lowering was built, and none of them runs rightly on this machine's GPU."""


def build_fastest(
    bundle: str | os.PathLike[str],
    target: str,
    precision: str = "fp32",
    out: str | os.PathLike[str] | None = None,
    spec: EngineSpec | None = None,
    *,
    on_event: OnEvent = lambda event: None,
    command: str = "",
    measure: Measure | None = None,
) -> Bundle:
    """Build engines for this machine's GPU, with the lowering of `match` that is fastest on it.

    Engines of other lowerings for the same target, size and precision are removed from the bundle.
    The times are reported as a `LogLine` and stored in the bundle in `engines/lowering.*.json`. If
    the bundle has only one lowering, nothing is timed, and the target may be any.

    Args:
        bundle: the bundle with the graphs.
        target: a target that this machine is, such as `this`.
        precision: fp32, fp16 or int8.
        out: where to write; by default `bundle` itself.
        spec: as for `build_engine`; its lowering is ignored.
        on_event: as for `build_engine`.
        command: the command line to record.
        measure: (bundle, the three engines) -> milliseconds per frame; by default `frame_ms`.

    Returns:
        The written bundle, opened.

    Raises:
        BuildError: this machine has no such GPU or cannot run engines, or no lowering runs on it.
        HSNetError: as for `build_engine`.
    """
    spec = dataclasses.replace(spec or EngineSpec(), lowering=AUTO)
    source, driver = Bundle.open(bundle), find_driver()
    goal = find_target(target, driver)
    matches = [
        g.variant for g in choose_graphs(source, precision, spec) if g.variant.graph == "match"
    ]
    names = list(dict.fromkeys(v.lowering for v in matches))
    if len(names) == 1:
        on_event(LogLine(f"lowering {names[0]}: the bundle holds no other for engines"))
        return build_engine(
            bundle, target, precision, out, spec, on_event=on_event, command=command
        )
    check_measurable(
        goal, driver, "the fastest lowering", f"name one: --lowering {' or '.join(names)}"
    )
    if measure is None:
        for size in dict.fromkeys(v.size for v in matches):
            golden_of(source, size)  # fails now, not after the build, if it is missing
    place = Path(bundle if out is None else out)
    check_place(place)
    with tempfile.TemporaryDirectory(prefix="hsnet-trt-") as scratch:
        whole = Path(scratch, "all")
        built = build_engine(
            bundle, target, precision, whole, spec, on_event=on_event, command=command
        )
        flavour = built.manifest.engines[-1].flavour
        made = [
            e
            for e in built.manifest.engines
            if (e.target, e.flavour, e.variant.precision) == (goal.name, flavour, precision)
        ]
        forms: list[Form] = []
        slower: list[EngineFile] = []
        for size in dict.fromkeys(v.size for v in matches):
            of_size = [e for e in made if e.variant.size == size]
            tried = [
                _timed(built, of_size, engine, measure or frame_ms)
                for engine in of_size
                if engine.variant in matches
            ]
            fastest = _fastest(tried)
            on_event(LogLine(_in_words(tried, fastest)))
            forms += tried
            slower += [
                e
                for e in of_size
                if e.variant.graph == "match" and e.variant.lowering != fastest.lowering
            ]
        record = json.dumps([dataclasses.asdict(form) for form in forms], indent=1) + "\n"
        name = choice_name(f"lowering.{precision}", goal.name, flavour)
        drop_engines(built, place, slower, {name: record.encode()})
    return Bundle.open(place)


def frame_ms(bundle: Bundle, engines: Mapping[str, EngineFile]) -> float:
    """Median milliseconds of a frame with one support through these engines.

    Raises:
        BackendError: the engines do not run here, or their outputs are out of tolerance.
    """
    runner = TensorRTRunner(bundle, dict(engines))
    try:
        size = engines["match"].variant.size
        require_passed(verify_runner(bundle, golden_of(bundle, size), runner))
        return Network(bundle, runner, size, "").frame_ms()
    finally:
        runner.close()


def require_passed(found: Verification) -> None:
    """Refuse engines whose outputs differ from PyTorch's.

    Raises:
        BackendError: they are out of tolerance.
    """
    if not found.passed:
        worst = found.figures[-1]
        raise BackendError(
            "it does not give what PyTorch gave",
            expected=found.tolerance,
            found=f"{worst.relative:.1e} of the logits' spread at {found.size[0]}x{found.size[1]}",
        )


def check_measurable(target: Target, driver: Driver, what: str, otherwise: str) -> None:
    """Refuse to choose by time if engines for the target cannot run here.

    Args:
        target: the machine the engines are for.
        driver: the GPUs of this machine.
        what: what is chosen, for the message.
        otherwise: what to do instead, for the message.

    Raises:
        BuildError: this machine has no such GPU, or no library to run engines with.
    """
    here = driver.gpus[0].compute_capability if driver.gpus else None
    if here is None or target.compute_capability not in (None, here):
        raise BuildError(
            f"{what} is measured on the GPU that it is for",
            expected=f"a machine with {target.title}",
            found=f"compute capability {here}" if here else driver.problem or "no GPU",
            fix=f"run this on that machine, or {otherwise}",
        )
    if not has("pycuda") and not has("cuda.bindings"):
        raise BuildError(
            f"{what} is measured by running engines, and no library for that is installed",
            expected="pycuda or cuda-bindings",
            fix=f"python -m pip install cuda-bindings (or pycuda), or {otherwise}",
        )


def drop_engines(
    built: Bundle, place: Path, gone: Sequence[EngineFile], added: Mapping[str, bytes]
) -> None:
    """Write a bundle to `place` without the engines `gone`, and with the files `added`."""
    manifest = built.manifest
    files = {name for engine in gone for name in (engine.file, engine.record)}
    with write_bundle(place) as writer:
        writer.copy(built, files | added.keys())
        for name, content in added.items():
            writer.add(name, content)
        engines = tuple(engine for engine in manifest.engines if engine not in gone)
        writer.finish(dataclasses.replace(manifest, engines=engines))


def reason(error: HSNetError) -> str:
    """Why something was left out, in one line."""
    return f"{error.summary} ({error.found})" if error.found else error.summary


def _timed(
    built: Bundle, engines: Sequence[EngineFile], match: EngineFile, measure: Measure
) -> Form:
    size, lowering = match.variant.size, match.variant.lowering
    three = {e.variant.graph: e for e in (*engines, match)}
    try:
        return Form(size, lowering, round(measure(built, three), 3))
    except BackendError as error:
        return Form(size, lowering, left_out=reason(error))


def _fastest(tried: Sequence[Form]) -> Form:
    timed = [form for form in tried if form.milliseconds is not None]
    if not timed:
        raise NothingRuns(
            "no lowering of the bundle can be run here",
            found="; ".join(f"{form.lowering}: {form.left_out}" for form in tried),
            fix="see `hsnet-trt doctor`, or name a --lowering: its engines are built untimed",
        )
    return min(timed, key=lambda form: form.milliseconds or 0.0)


def _in_words(tried: Sequence[Form], fastest: Form) -> str:
    times = ", ".join(
        f"{form.lowering} {form.milliseconds:.2f} ms"
        for form in tried
        if form.milliseconds is not None
    )
    out = "".join(f"; {form.lowering} left out: {form.left_out}" for form in tried if form.left_out)
    height, width = fastest.size
    return f"{height}x{width}: lowering {fastest.lowering}, the fastest here ({times} a frame{out})"
