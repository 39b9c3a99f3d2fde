"""Which TensorRT can build an engine for a target on this machine, and what to do if none can."""

from __future__ import annotations

import importlib.util

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.engines.targets import TENSORRT, TENSORRT_RTX, Target
from hsnet_trt.runtime.device.machine import Driver

TITLES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT for RTX"}


def installed(flavour: str) -> bool:
    """Whether the flavour's package is installed here; it is not imported."""
    return importlib.util.find_spec(flavour) is not None


def choose_flavour(target: Target, wanted: str, driver: Driver) -> str:
    """The flavour that builds for `target` on this machine.

    TensorRT builds for the GPU in this machine; TensorRT for RTX needs no GPU and builds for any
    card it supports.

    Args:
        target: the machine to build for.
        wanted: "auto" for the preferred flavour that works here, or a flavour's name.
        driver: the GPUs of this machine.

    Raises:
        InputError: no such flavour.
        BuildError: no flavour can build for the target here; `fix` says what to do.
    """
    if wanted not in ("auto", *TITLES):
        raise InputError(
            "there is no such flavour of TensorRT",
            expected=f"auto, {', '.join(TITLES)}",
            found=repr(wanted),
        )
    if wanted != "auto" and wanted not in target.flavours:
        raise BuildError(
            f"{TITLES[wanted]} does not support {target.title}",
            expected=" or ".join(TITLES[f] for f in target.flavours),
            found=TITLES[wanted],
            fix=remedy(target, target.flavours[0], driver),
        )
    candidates = target.flavours if wanted == "auto" else (wanted,)
    problems = []
    for flavour in candidates:
        problem = obstacle(target, flavour, driver)
        if problem is None:
            return flavour
        problems.append(f"{TITLES[flavour]}: {problem}")
    raise BuildError(
        f"an engine for {target.title} cannot be built on this machine",
        found="; ".join(problems),
        fix=remedy(target, candidates[0], driver),
    )


def obstacle(target: Target, flavour: str, driver: Driver) -> str | None:
    """Why the flavour cannot build for the target here; None if it can."""
    if not installed(flavour):
        return f"the package {flavour} is not installed here"
    if flavour == TENSORRT_RTX:
        return None
    if not driver.gpus:
        return f"it builds on the GPU it builds for, and {driver.problem}"
    gpu = driver.gpus[0]
    if gpu.compute_capability != target.compute_capability:
        return (
            f"it builds for the GPU in the machine, {gpu.name} (compute capability "
            f"{gpu.compute_capability}), not for {target.compute_capability}"
        )
    return None


def remedy(target: Target, flavour: str, driver: Driver) -> str:
    """What to do to get an engine for the target from that flavour."""
    command = f"`hsnet-trt build-engine BUNDLE --target {target.name}`"
    if flavour == TENSORRT_RTX:
        return "`python -m pip install tensorrt-rtx` (Linux or Windows, x86-64), and run this again"
    if target.jetson:
        return (
            f"copy the bundle to the {target.title} (its JetPack brings TensorRT) and run there: "
            f"{command}; neither torch nor onnx is needed for that"
        )
    if any(gpu.compute_capability == target.compute_capability for gpu in driver.gpus):
        if installed(TENSORRT):
            return f"choose that GPU with CUDA_VISIBLE_DEVICES and run again: {command}"
        return f"`python -m pip install tensorrt`, and run again: {command}"
    return (
        f"copy the bundle to a machine with that card ({target.title}), "
        f"`python -m pip install tensorrt` there, and run: {command}"
    )
