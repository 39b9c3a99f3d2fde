"""What this machine can do with HSNet-TRT, what is missing, and how to fix it."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import hsnet_trt
from hsnet_trt.export.doctor.extras import EXTRAS, Extra
from hsnet_trt.export.doctor.probes import (
    LIBRARIES,
    CudaProvider,
    Library,
    Tool,
    find_onnxruntimes,
    find_tools,
    probe_cuda_provider,
    probe_driver,
    probe_libraries,
)
from hsnet_trt.export.engines.targets import RTX_CAPABILITIES
from hsnet_trt.runtime.device import machine
from hsnet_trt.runtime.device.machine import Driver
from hsnet_trt.runtime.ort.cuda import INSTALL

_PIP = "python -m pip install"
_JETPACK = "sudo apt install nvidia-jetpack (a virtual environment needs --system-site-packages)"


@dataclass(frozen=True)
class Ability:
    """Something this machine may be able to do."""

    name: str
    works: bool
    how: str  # the library that does it, or what is missing
    fix: str | None = None  # the command or step that fixes it


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `hsnet-trt doctor` reports."""

    version: str
    python: str
    platform: str
    cpu: str
    cores: int
    memory_bytes: int | None
    jetson: str | None
    driver: Driver
    libraries: tuple[Library, ...]
    tools: tuple[Tool, ...]
    abilities: tuple[Ability, ...]

    def to_json(self) -> str:
        """The diagnosis as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def diagnose() -> Diagnosis:
    """Examine this machine; takes a few seconds. Problems are reported, not raised."""
    libraries = {library.name: library for library in probe_libraries(LIBRARIES)}
    driver = probe_driver()
    tools = find_tools()
    jetson = machine.find_jetson()
    return Diagnosis(
        version=hsnet_trt.__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=machine.platform_tag(),
        cpu=machine.find_cpu(),
        cores=machine.usable_cores(),
        memory_bytes=machine.host_memory(),
        jetson=jetson,
        driver=driver,
        libraries=tuple(libraries.values()),
        tools=tools,
        abilities=judge(
            libraries, driver, tools, jetson, probe_cuda_provider(), find_onnxruntimes()
        ),
    )


def judge(
    libraries: dict[str, Library],
    driver: Driver,
    tools: Sequence[Tool],
    jetson: str | None,
    provider: CudaProvider,
    onnxruntimes: Sequence[str],
) -> tuple[Ability, ...]:
    """What the machine can do, from what was found, in the order in which people need it."""
    return (
        _segment_cpu(libraries),
        *([_tell_apart(onnxruntimes)] if len(onnxruntimes) > 1 else []),
        _segment_gpu(libraries, driver, jetson, provider),
        _export(libraries),
        _build_rtx(libraries),
        _build_here(libraries, driver, jetson),
        _build_plugin(tools, jetson),
        *(_use_extra(extra, libraries) for extra in EXTRAS),
        _use_gstreamer(libraries),
    )


def _segment_cpu(libraries: dict[str, Library]) -> Ability:
    name = "segment on the CPU"
    lacking = _lacking(libraries, ("numpy", "PIL", "onnxruntime"))
    if lacking:
        return Ability(
            name,
            False,
            lacking,
            _install(libraries, {"numpy": "numpy", "PIL": "Pillow", "onnxruntime": "onnxruntime"}),
        )
    return Ability(name, True, f"ONNX Runtime {libraries['onnxruntime'].version}")


def _tell_apart(onnxruntimes: Sequence[str]) -> Ability:
    return Ability(
        "tell one ONNX Runtime from another",
        False,
        f"{' and '.join(onnxruntimes)} fill the same folder: the one installed last works, and "
        "removing either breaks the other",
        f"for NVIDIA cards: {INSTALL}; for the CPU: python -m pip uninstall -y onnxruntime "
        f"onnxruntime-gpu && {_PIP} onnxruntime",
    )


def _segment_gpu(
    libraries: dict[str, Library], driver: Driver, jetson: str | None, provider: CudaProvider
) -> Ability:
    name = "segment on the GPU"
    if not driver.gpus:
        return Ability(name, False, driver.problem or "no GPU", _mend_driver(jetson))
    flavour, fix = _flavour_for(libraries, driver, jetson)
    here = f"on {driver.gpus[0].name}"
    if flavour is None and provider.problem is None:
        how = f"ONNX Runtime {libraries['onnxruntime'].version} with CUDA {here}"
        return Ability(name, True, how)
    if flavour is None:
        how = f"{_unserved(libraries, driver)}; {provider.problem}"
        return Ability(name, False, how, " or: ".join(filter(None, (fix, provider.fix))))
    lacking = _lacking(libraries, ("pycuda",))
    how = f"{flavour} {libraries[flavour].version} {here}"
    if not lacking:
        return Ability(name, True, how)
    if libraries["cuda.bindings"].state == "works":
        return Ability(name, True, f"{how}, through cuda-bindings ({lacking})")
    return Ability(name, False, lacking, _install(libraries, {"pycuda": "pycuda"}))


def _export(libraries: dict[str, Library]) -> Ability:
    name = "export a checkpoint"
    packages = {
        "torch": "torch",
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxruntime": "onnxruntime",
    }
    lacking = _lacking(libraries, tuple(packages))
    if lacking:
        return Ability(name, False, lacking, _install(libraries, packages))
    return Ability(
        name, True, f"torch {libraries['torch'].version}, onnx {libraries['onnx'].version}"
    )


def _build_rtx(libraries: dict[str, Library]) -> Ability:
    name = "build engines for RTX cards (needs no GPU)"
    lacking = _lacking(libraries, ("tensorrt_rtx",))
    if not lacking:
        return Ability(name, True, f"TensorRT for RTX {libraries['tensorrt_rtx'].version}")
    if machine.platform_tag() not in ("linux-x86_64", "windows-x86_64"):
        where = (
            "do it on a Linux or Windows machine with an x86-64 processor, and copy the bundle here"
        )
        return Ability(
            name, False, f"TensorRT for RTX is not made for {machine.platform_tag()}", where
        )
    return Ability(name, False, lacking, f"{_PIP} {_again(libraries['tensorrt_rtx'])}tensorrt-rtx")


def _build_here(libraries: dict[str, Library], driver: Driver, jetson: str | None) -> Ability:
    name = "build engines for this machine's GPU"
    if not driver.gpus:
        return Ability(name, False, driver.problem or "no GPU", _mend_driver(jetson))
    flavour, fix = _flavour_for(libraries, driver, jetson)
    if flavour is None:
        return Ability(name, False, _unserved(libraries, driver), fix)
    gpu = driver.gpus[0]
    card = f"{gpu.name} (compute capability {gpu.compute_capability})"
    return Ability(name, True, f"{flavour} {libraries[flavour].version} for {card}: --target this")


def _build_plugin(tools: Sequence[Tool], jetson: str | None) -> Ability:
    name = "build the correlation plugin"
    absent = [tool.name for tool in tools if tool.path is None]
    if not absent:
        return Ability(name, True, ", ".join(f"{tool.path}" for tool in tools))
    fixes = {
        "nvcc": "sudo apt install nvidia-cuda-toolkit (or NVIDIA's cuda-toolkit package)",
        "c++": "sudo apt install g++",
        "NvInfer.h": "sudo apt install libnvinfer-dev (NVIDIA's repository), or set TENSORRT_ROOT",
    }
    fix = "sudo apt install nvidia-jetpack" if jetson else "; ".join(fixes[tool] for tool in absent)
    return Ability(name, False, f"missing: {', '.join(absent)}", fix)


def _use_extra(extra: Extra, libraries: dict[str, Library]) -> Ability:
    names = tuple(extra.packages)
    lacking = _lacking(libraries, names)
    if not lacking:
        versions = (f"{name.split('.')[0]} {libraries[name].version or ''}" for name in names)
        return Ability(extra.enables, True, ", ".join(version.strip() for version in versions))
    fix = _install(libraries, extra.packages)
    return Ability(extra.enables, False, f"{lacking} (extra {extra.name})", fix)


def _use_gstreamer(libraries: dict[str, Library]) -> Ability:
    name = "read a Jetson's CSI camera and GStreamer pipelines (hsnet-trt video)"
    lacking = _lacking(libraries, ("gi",))
    if not lacking:
        return Ability(name, True, f"PyGObject {libraries['gi'].version}")
    fix = (
        "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 (a virtual environment needs "
        "--system-site-packages)"
    )
    return Ability(name, False, lacking, fix)


def _flavour_for(
    libraries: dict[str, Library], driver: Driver, jetson: str | None
) -> tuple[str | None, str | None]:
    """The TensorRT that supports the first GPU here, or None and how to install one."""
    if libraries["tensorrt"].state == "works":
        return "tensorrt", None
    served = driver.gpus[0].compute_capability in RTX_CAPABILITIES
    if served and libraries["tensorrt_rtx"].state == "works":
        return "tensorrt_rtx", None
    if jetson:
        return None, _JETPACK
    name = "tensorrt_rtx" if served else "tensorrt"
    return None, f"{_PIP} {_again(libraries[name])}{name.replace('_', '-')}"


def _unserved(libraries: dict[str, Library], driver: Driver) -> str:
    """A message that no TensorRT here supports the first GPU, with what the installed one does."""
    gpu = driver.gpus[0]
    why = f"no TensorRT that serves {gpu.name} (compute capability {gpu.compute_capability})"
    if libraries["tensorrt_rtx"].state == "works":
        why += f"; TensorRT for RTX serves {', '.join(RTX_CAPABILITIES)}"
    return why


def _mend_driver(jetson: str | None) -> str:
    if jetson:
        return "sudo apt install nvidia-jetpack; in a container, start it with --runtime nvidia"
    if machine.has_nvidia_card():
        return "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and reboot"
    return (
        "take the bundle to a machine with an NVIDIA GPU (in a container: start it with --gpus all)"
    )


def _lacking(libraries: dict[str, Library], names: Sequence[str]) -> str:
    """What is wrong with these libraries, as a message; empty if all work."""
    states = [libraries[name] for name in names if libraries[name].state != "works"]
    return "; ".join(
        f"{lib.name} is not installed"
        if lib.state == "missing"
        else f"{lib.name} is broken: {lib.detail}"
        for lib in states
    )


def _install(libraries: dict[str, Library], packages: dict[str, str]) -> str:
    """The command that installs those of `packages` that do not work (import name -> package)."""
    wanted = [name for name in packages if libraries[name].state != "works"]
    broken = any(libraries[name].state == "broken" for name in wanted)
    again = "--force-reinstall " if broken else ""
    return f"{_PIP} {again}{' '.join(packages[name] for name in wanted)}"


def _again(library: Library) -> str:
    return "--force-reinstall " if library.state == "broken" else ""
