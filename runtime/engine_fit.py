"""Whether an engine fits a machine, decided from the manifest before any native code is read.

TensorRT engines run only with the TensorRT version, on the operating system and the GPU
architecture that they were built for (TensorRT developer guide, "Engine compatibility").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hsnet_trt.runtime.manifest import EngineFile

PORTABLE = "portable"


@dataclass(frozen=True)
class Host:
    """What an engine would run on."""

    flavour: str  # tensorrt | tensorrt_rtx
    version: str
    compute_capability: str  # "8.9"
    platform: str  # "linux-x86_64"


def misfit(engine: EngineFile, host: Host) -> str | None:
    """Why the engine cannot run on the host, in words; None if it can."""
    name = engine.variant.graph
    if engine.flavour != host.flavour:
        return f"its {name} engine is for {engine.flavour}, not {host.flavour}"
    if _release(engine.version) != _release(host.version):
        return (
            f"its {name} engine is for {host.flavour} {engine.version}, "
            f"and {host.version} is installed"
        )
    if engine.platform != host.platform:
        return f"its {name} engine is for {engine.platform}, and this is {host.platform}"
    if not {PORTABLE, host.compute_capability} & set(engine.compute_capabilities):
        wanted = ", ".join(engine.compute_capabilities)
        return (
            f"its {name} engine is for compute capability {wanted}, "
            f"and this GPU has {host.compute_capability}"
        )
    if engine.variant.correlation == "plugin":
        return f"its {name} engine needs the correlation plugin, which this version cannot load"
    return None


def best_fit(engines: Iterable[EngineFile], host: Host) -> tuple[EngineFile | None, list[str]]:
    """The engine to run among those of one graph, size and precision, and why others do not fit.

    One built for this very compute capability is preferred to a portable one.
    """
    fitting, reasons = [], []
    for engine in engines:
        reason = misfit(engine, host)
        if reason is None:
            fitting.append(engine)
        else:
            reasons.append(reason)
    fitting.sort(key=lambda engine: PORTABLE in engine.compute_capabilities)
    return (fitting[0] if fitting else None), reasons


def _release(version: str) -> tuple[str, ...]:
    """Major, minor, patch: packages of one release differ in whether they tell the build number."""
    return tuple(version.split("+", maxsplit=1)[0].split(".")[:3])
