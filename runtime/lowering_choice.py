"""Which lowering of `match` is the fastest here: each is timed once, and the answer remembered.

What is remembered is a small file in the user's cache folder, by card (or processor), backend with
its version, precision, size and the graphs' hashes: whatever changes, it is timed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.backends import CPU_LOWERING, TENSORRT, open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.kernel_cache import cache_folder, keep_content, read_kept
from hsnet_trt.runtime.matching.graphs import Runner

_log = logging.getLogger("hsnet_trt")

AUTO = "auto"


@dataclass(frozen=True)
class Opened:
    """A runner of the fastest lowering.

    Attributes:
        runner: opened.
        reason: in words, why it is that backend and that lowering.
        lowering: its name; None if there was no choice.
    """

    runner: Runner
    reason: str
    lowering: str | None


def open_fastest(
    bundle: Bundle,
    size: tuple[int, int],
    backend: str,
    precision: str | None,
    frame_ms: Callable[[Runner], float],
) -> Opened:
    """Open the fastest lowering of those that the bundle holds for the backend that runs here.

    Args:
        bundle: the opened bundle.
        size: height and width of the network's input.
        backend: as for `open_runner`.
        precision: as for `open_runner`.
        frame_ms: times a runner: milliseconds of a frame.

    Raises:
        InputError, BackendError, BundleError: as of `open_runner`.
    """
    runner, reason = open_runner(bundle, size, backend, precision)
    forms = _forms(bundle, size, runner)
    if len(forms) < 2:
        return Opened(runner, reason, None)
    file = _file(bundle, size, runner, forms)
    times, how = _kept(file, forms), "remembered"
    if times is None:
        chosen = runner.backend, runner.precision
        runner.close()
        times, how = _times(bundle, size, *chosen, forms, frame_ms), "timed now"
        keep_content(json.dumps(times).encode(), file)
    else:
        chosen = runner.backend, runner.precision
        runner.close()
    fastest = min(times, key=times.__getitem__)
    words = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items())
    reason = f"{reason}; lowering {fastest}, the fastest here ({words} a frame, {how})"
    _log.info("lowering %s, the fastest on this machine: %s a frame, %s", fastest, words, how)
    runner, _ = open_runner(bundle, size, *chosen, fastest)
    return Opened(runner, reason, fastest)


def _forms(bundle: Bundle, size: tuple[int, int], runner: Runner) -> dict[str, str]:
    """The lowerings that this backend could run in this precision, and the hash of each one's file.

    (Of engines of one lowering for several machines, one stands for all.)
    """
    manifest = bundle.manifest
    entries = manifest.engines if runner.backend in TENSORRT else manifest.graphs
    found: dict[str, str] = {}
    for entry in entries:
        v = entry.variant
        if (v.graph, v.size, v.precision) != ("match", size, runner.precision):
            continue
        if v.lowering == CPU_LOWERING and runner.backend != "onnxruntime":
            continue
        if getattr(entry, "flavour", runner.backend) == runner.backend:
            found.setdefault(v.lowering, manifest.files[entry.file].sha256)
    return found


def _times(
    bundle: Bundle,
    size: tuple[int, int],
    backend: str,
    precision: str,
    forms: Mapping[str, str],
    frame_ms: Callable[[Runner], float],
) -> dict[str, float]:
    """Milliseconds of a frame in each form; one that cannot run here is left out.

    Raises:
        BackendError: none can.
    """
    times: dict[str, float] = {}
    refusal: BackendError | None = None
    for name in forms:
        try:
            runner, _ = open_runner(bundle, size, backend, precision, name)
        except BackendError as error:
            refusal = error
            continue
        try:
            times[name] = round(frame_ms(runner), 3)
        except BackendError as error:
            refusal = error
        finally:
            runner.close()
    if not times:
        raise refusal or BackendError("no lowering can run here")
    return times


def _file(bundle: Bundle, size: tuple[int, int], runner: Runner, forms: Mapping[str, str]) -> Path:
    facts = [runner.backend, runner.device, runner.precision, list(size), sorted(forms.items())]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return cache_folder() / f"lowering-{digest[:32]}.json"


def _kept(file: Path, forms: Mapping[str, str]) -> dict[str, float] | None:
    content = read_kept(file)
    try:
        found = json.loads(content) if content else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not found or not set(found) <= set(forms):
        return None
    return {name: float(ms) for name, ms in found.items()}
