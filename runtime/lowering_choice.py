"""Choose the fastest form of the network on this machine: time each once, and keep the times.

The forms are the lowerings of `match` that a bundle holds and, for ONNX Runtime on a GPU, the
searches for cuDNN's algorithms. The times are kept in a small file in the user's cache folder, by
card (or processor), backend with its version, precision, size, the graphs' hashes and the limit of
the GPU's memory. If any of these changes, the forms are timed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.errors import BackendError
from hsnet_trt.files import cache_folder
from hsnet_trt.runtime.backends import CPU_LOWERING, TENSORRT, open_runner
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.kernel_cache import keep_content, read_kept
from hsnet_trt.runtime.matching.runner import Runner
from hsnet_trt.runtime.ort.cuda import SEARCHES, USUAL, CudaChoice

_log = logging.getLogger("hsnet_trt")

AUTO = "auto"


@dataclass(frozen=True)
class Form:
    """What is timed: a lowering, the hash of its graph or engine, and the CUDA options."""

    lowering: str
    sha256: str
    cuda: CudaChoice


@dataclass(frozen=True)
class Opened:
    """A runner of the fastest form.

    Attributes:
        runner: open.
        reason: in words, why this backend and form were chosen.
        lowering: name of the lowering; None if there was only one form.
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
    cuda: CudaChoice = USUAL,
) -> Opened:
    """Open the fastest of the bundle's forms for the backend that runs here.

    Args:
        bundle: the opened bundle.
        size: height and width of the network's input.
        backend: as for `open_runner`.
        precision: as for `open_runner`.
        frame_ms: measures the milliseconds per frame of a runner.
        cuda: as for `open_runner`; with ONNX Runtime on a GPU, `search` is replaced by the fastest.

    Raises:
        InputError, BackendError, BundleError: as of `open_runner`.
    """
    runner, reason = open_runner(bundle, size, backend, precision, cuda=cuda)
    forms = _forms(bundle, size, runner, cuda)
    if len(forms) < 2:
        return Opened(runner, reason, None)
    file = _file(size, runner, forms)
    chosen = runner.backend, runner.precision
    runner.close()
    times, how = _kept(file, forms), "remembered"
    if times is None:
        times, how = _times(bundle, size, *chosen, forms, frame_ms), "timed now"
        keep_content(json.dumps(times).encode(), file)
    fastest = min(times, key=times.__getitem__)
    words = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items())
    reason = f"{reason}; lowering {fastest}, the fastest here ({words} a frame, {how})"
    _log.info("lowering %s, the fastest on this machine: %s a frame, %s", fastest, words, how)
    form = forms[fastest]
    runner, _ = open_runner(bundle, size, *chosen, form.lowering, form.cuda)
    return Opened(runner, reason, form.lowering)


def _forms(
    bundle: Bundle, size: tuple[int, int], runner: Runner, cuda: CudaChoice
) -> dict[str, Form]:
    """The forms that this backend could run in this precision, by name.

    Of several engines of one lowering, for different machines, only the first is listed.
    """
    manifest = bundle.manifest
    entries = manifest.engines if runner.backend in TENSORRT else manifest.graphs
    searches = SEARCHES if runner.backend == "onnxruntime_cuda" else (cuda.search,)
    found: dict[str, Form] = {}
    for entry in entries:
        v = entry.variant
        if (v.graph, v.size, v.precision) != ("match", size, runner.precision):
            continue
        if v.lowering == CPU_LOWERING and runner.backend != "onnxruntime":
            continue
        if getattr(entry, "flavour", runner.backend) != runner.backend:
            continue
        for search in searches:
            name = v.lowering if search == SEARCHES[0] else f"{v.lowering} {search.lower()}"
            sha256 = manifest.files[entry.file].sha256
            choice = dataclasses.replace(cuda, search=search)
            found.setdefault(name, Form(v.lowering, sha256, choice))
    return found


def _times(
    bundle: Bundle,
    size: tuple[int, int],
    backend: str,
    precision: str,
    forms: Mapping[str, Form],
    frame_ms: Callable[[Runner], float],
) -> dict[str, float]:
    """Milliseconds per frame of each form that can run here.

    Raises:
        BackendError: none can.
    """
    times: dict[str, float] = {}
    refusal: BackendError | None = None
    for name, form in forms.items():
        try:
            runner, _ = open_runner(bundle, size, backend, precision, form.lowering, form.cuda)
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


def _file(size: tuple[int, int], runner: Runner, forms: Mapping[str, Form]) -> Path:
    hashes = sorted((name, form.sha256) for name, form in forms.items())
    facts = [runner.backend, runner.device, runner.precision, list(size), hashes]
    if runner.backend == "onnxruntime_cuda":  # with less memory, other forms may be the fastest
        facts.append([form.cuda.memory for form in forms.values()])
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return cache_folder() / f"lowering-{digest[:32]}.json"


def _kept(file: Path, forms: Mapping[str, Form]) -> dict[str, float] | None:
    content = read_kept(file)
    try:
        found = json.loads(content) if content else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not found or not set(found) <= set(forms):
        return None
    if not all(type(ms) in (int, float) and math.isfinite(ms) for ms in found.values()):
        return None
    return {name: float(ms) for name, ms in found.items()}
