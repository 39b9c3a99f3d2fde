"""Whether an engine fits a machine, decided from the manifest before native code is read.

TensorRT engines run only with the TensorRT version, on the operating system and the GPU
architecture that they were built for (TensorRT developer guide, "Engine compatibility").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hsnet_trt.runtime.bundle.manifest import EngineFile

REBUILD = "build engines for this machine: hsnet-trt build-engine BUNDLE --target this"
PORTABLE = "portable"
# As listed by TensorRT for RTX 1.7.1 when it refused an H100 ("Supported compute capabilities: 8.0
# 8.6 8.9 12.0 12.1 >12.0"). Not 7.5, 8.7, 9.0, 10.x and 11.0.
_PORTABLE_ON = ("8.0", "8.6", "8.9")
_PORTABLE_FROM = (12, 0)
PORTABLE_COVERS = f"{', '.join(_PORTABLE_ON)}, {'.'.join(map(str, _PORTABLE_FROM))} and later"
# Refused by TensorRT for RTX in any case. 7.5 is not: it runs engines that were built for it.
_NEVER_RTX = re.compile(r"8\.7|9\.\d|10\.\d|11\.\d")


@dataclass(frozen=True)
class Host:
    """The machine that an engine would run on."""

    flavour: str  # tensorrt | tensorrt_rtx
    version: str
    compute_capability: str  # "8.9"
    platform: str  # "linux-x86_64"


def misfit(engine: EngineFile, host: Host) -> str | None:
    """Why the engine cannot run on the host, in words; None if it can."""
    name = engine.variant.graph
    if engine.flavour != host.flavour:
        return f"its {name} engine is for {engine.flavour}, not {host.flavour}"
    if not _runs_with(engine, host.version):
        return (
            f"its {name} engine is for {host.flavour} {engine.version}, "
            f"and {host.version} is installed"
        )
    if engine.platform != host.platform:
        return f"its {name} engine is for {engine.platform}, and this is {host.platform}"
    if engine.variant.correlation == "plugin" and engine.plugin is None:
        return f"its {name} engine needs the correlation plugin, and the bundle names none"
    return _gpu_misfit(engine, host.compute_capability)


def _gpu_misfit(engine: EngineFile, capability: str) -> str | None:
    wanted = ", ".join(engine.compute_capabilities)
    fits = capability in engine.compute_capabilities
    if PORTABLE in engine.compute_capabilities:
        wanted = PORTABLE_COVERS
        fits = capability in _PORTABLE_ON or _numbers(capability) >= _PORTABLE_FROM
    if fits:
        return None
    return (
        f"its {engine.variant.graph} engine is for compute capability {wanted}, "
        f"and this GPU has {capability}"
    )


def remedy(flavour: str, capability: str) -> str:
    """The advice in errors when an engine of that flavour does not run on that GPU."""
    if flavour == "tensorrt_rtx" and _NEVER_RTX.fullmatch(capability):
        return (
            f"TensorRT for RTX does not serve compute capability {capability}: install TensorRT "
            f"(python -m pip install tensorrt) and {REBUILD}"
        )
    return REBUILD


def best_fit(engines: Iterable[EngineFile], host: Host) -> tuple[EngineFile | None, list[str]]:
    """Choose among engines of one graph, size and precision.

    An engine built for the host's compute capability is preferred to a portable one.

    Returns:
        The engine, or None if none fits; and the reasons why others do not fit.
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


def _runs_with(engine: EngineFile, version: str) -> bool:
    """Whether that version can load the engine: see TensorRT's page "Version Compatibility"."""
    built, here = _numbers(engine.version), _numbers(version)
    if engine.version_compatible:
        return built[:1] == here[:1] and built <= here
    return built == here


def _numbers(version: str) -> tuple[int, ...]:
    """Major, minor, patch; not the build number, which only some packages of a release give."""
    digits = (re.match(r"\d+", part) for part in version.split("+", maxsplit=1)[0].split(".")[:3])
    return tuple(int(found[0]) if found else -1 for found in digits)
