"""The doctor against machines that are made up: libraries that abort, a driver that is a stub."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.places import ROOT

from hsnet_trt.export.doctor.extras import EXTRAS
from hsnet_trt.runtime.device.machine import find_jetson, has_nvidia_card

STUB = Path(__file__).with_name("libcuda_stub.c")
VERB = "from hsnet_trt.cli.doctor import doctor; doctor(json_output={})"

# Libraries that would take seconds to import, as one-line modules.
QUICK = {
    "torch": "class version: cuda = None\n__version__ = '2.9.0'\n",
    "onnx": "__version__ = '1.19.0'\n",
    "onnxscript": "__version__ = '0.5.0'\n",
    "polygraphy": "__version__ = '0.49.0'\n",
    "onnxruntime": "__version__ = '1.20.0'\n"
    "def get_available_providers(): return ['CPUExecutionProvider']\n",
    "tensorrt_rtx": "__version__ = '1.7.1'\n",
}
ABSENT = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')\n"


EXTRA_ROOTS = {name.split(".")[0] for extra in EXTRAS for name in extra.packages}


class Machine:
    """A made-up machine: which modules, which driver, which programs."""

    def __init__(self, folder: Path) -> None:
        self.modules = folder / "modules"
        self.programs = folder / "bin"
        self.driver = folder / "driver"
        for path in (self.modules, self.programs, self.driver):
            path.mkdir()
        self.give(**QUICK)
        self.take("tensorrt", "pycuda", "cuda", *EXTRA_ROOTS)

    def give(self, **sources: str) -> None:
        for name, source in sources.items():
            (self.modules / f"{name}.py").write_text(source)

    def give_package(
        self, name: str, module: str, package: str = "", content: str = "__version__ = '1'\n"
    ) -> None:
        """`package` is the source of its `__init__`, `content` that of the module."""
        (self.modules / f"{name.partition('.')[0]}.py").unlink(missing_ok=True)
        folder = self.modules / name.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(package)
        (folder / f"{module}.py").write_text(content)

    def take(self, *names: str) -> None:
        self.give(**{name: ABSENT.format(name) for name in names})

    def give_driver(self, init: int = 0, gpus: int = 0) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("no C compiler to build a stub of the driver with")
        out = str(self.driver / "libcuda.so.1")
        flags = [f"-DINIT={init}", f"-DGPUS={gpus}", "-shared", "-fPIC", "-o", out]
        subprocess.run([compiler, *flags, str(STUB)], check=True)

    def doctor(self, as_json: bool = True) -> str:
        environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if k not in ("CUDA_HOME", "CXX", "TENSORRT_ROOT")
            },
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.modules)]),
            "LD_LIBRARY_PATH": str(self.driver),
            "PATH": str(self.programs),
            "CUDA_HOME": str(self.programs),
            "COLUMNS": "200",
        }
        return subprocess.run(
            [sys.executable, "-c", VERB.format(as_json)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def diagnosis(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        told = json.loads(self.doctor())
        libraries = {library["name"]: library for library in told["libraries"]}
        return told, libraries, {a["name"].split(" (")[0]: a for a in told["abilities"]}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_a_gpu(machine: Machine) -> None:
    machine.give_driver(init=100)
    told, libraries, abilities = machine.diagnosis()
    assert told["driver"]["cuda_version"] == "12.6"
    assert "sees no GPU" in told["driver"]["problem"]
    assert libraries["torch"] == {
        "name": "torch",
        "state": "works",
        "version": "2.9.0",
        "detail": "CPU only",
    }
    assert libraries["tensorrt"]["state"] == "missing"
    works = {name for name, ability in abilities.items() if ability["works"]}
    assert works == {"segment on the CPU", "export a checkpoint", "build engines for RTX cards"}
    for name in abilities.keys() - works:
        assert abilities[name]["fix"], name


def test_broken_libraries_do_not_take_it_down(machine: Machine) -> None:
    machine.give(
        torch="import os; os.abort()\n",
        onnxruntime="raise ImportError('libgomp.so.1: cannot open shared object file')\n",
        onnx="import sys; sys.exit(0)\n",
        tensorrt_rtx="import no_such_part\n",
    )
    _, libraries, abilities = machine.diagnosis()
    assert "signal 6" in libraries["torch"]["detail"]
    assert "libgomp.so.1" in libraries["onnxruntime"]["detail"]
    assert {libraries[n]["state"] for n in ("torch", "onnx", "onnxruntime", "tensorrt_rtx")} == {
        "broken"
    }
    fixes = {name: ability["fix"] for name, ability in abilities.items() if not ability["works"]}
    assert "--force-reinstall onnxruntime" in fixes["segment on the CPU"]
    assert "--force-reinstall torch onnx onnxruntime" in fixes["export a checkpoint"]
    assert "--force-reinstall tensorrt-rtx" in fixes["build engines for RTX cards"]


def test_a_jetson_with_tensorrt(machine: Machine) -> None:
    machine.give_driver(gpus=1)
    machine.give(tensorrt="__version__ = '10.3.0'\n")
    machine.give_package("pycuda", "driver", "VERSION_TEXT = '2025.1'\n")
    machine.take("torch", "tensorrt_rtx")
    told, libraries, abilities = machine.diagnosis()
    assert told["driver"]["gpus"] == [
        {
            "index": 0,
            "name": "Orin",
            "compute_capability": "8.7",
            "memory_bytes": 2**33,
            "integrated": True,
        }
    ]
    assert libraries["pycuda"]["version"] == "2025.1"
    assert abilities["segment on the GPU"]["how"] == "tensorrt 10.3.0 on Orin"
    assert abilities["build engines for this machine's GPU"]["works"]
    assert not abilities["export a checkpoint"]["works"]
    assert abilities["export a checkpoint"]["fix"] == "python -m pip install torch"


def test_a_library_is_tried_with_what_is_used_of_it(machine: Machine) -> None:
    """Each package can be imported, and its native part cannot."""
    symbol = "raise ImportError('_driver.so: undefined symbol: cuArrayCreate_v2')\n"
    machine.give_driver(gpus=1)
    machine.give(tensorrt="__version__ = '10.3.0'\n")
    machine.give_package("pycuda", "driver", "VERSION_TEXT = '2026.1'\n", symbol)
    machine.give_package("cuda.bindings", "driver", "__version__ = '13.3.1'\n", symbol)
    machine.give_package("PIL", "Image", "__version__ = '12.0'\n", "import PIL._imaging\n")
    _, libraries, abilities = machine.diagnosis()
    for name in ("pycuda", "cuda.bindings"):
        assert libraries[name]["state"] == "broken"
        assert "undefined symbol" in libraries[name]["detail"]
    assert libraries["PIL"]["state"] == "broken" and not abilities["segment on the CPU"]["works"]
    here = abilities["segment on the GPU"]
    assert not here["works"] and "undefined symbol" in here["how"]
    assert here["fix"] == "python -m pip install --force-reinstall pycuda"


def test_either_cuda_library_will_do(machine: Machine) -> None:
    machine.give_driver(gpus=1)
    machine.give(tensorrt="__version__ = '10.3.0'\n")
    machine.give_package("cuda.bindings", "driver", "__version__ = '12.9.0'\n")
    _, libraries, abilities = machine.diagnosis()
    assert libraries["cuda.bindings"]["state"] == "works"
    assert libraries["cuda.bindings"]["version"] == "12.9.0"
    here = abilities["segment on the GPU"]
    assert here["works"]
    assert here["how"] == (
        "tensorrt 10.3.0 on Orin, through cuda-bindings (pycuda is not installed)"
    )


def test_rtx_does_not_serve_every_gpu(machine: Machine) -> None:
    """Compute capability 8.7 is not among those of TensorRT for RTX."""
    machine.give_driver(gpus=1)
    _, _, abilities = machine.diagnosis()
    assert not abilities["build engines for this machine's GPU"]["works"]
    assert (
        abilities["build engines for this machine's GPU"]["fix"] == "python -m pip install tensorrt"
    )
    why = (
        "no TensorRT that serves Orin (compute capability 8.7); "
        "TensorRT for RTX serves 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"
    )
    assert abilities["build engines for this machine's GPU"]["how"] == why
    assert abilities["segment on the GPU"]["how"] == (
        f"{why}; this ONNX Runtime has no CUDA provider "
        "(onnxruntime 1.20.0 with CPUExecutionProvider)"
    )
    fix = abilities["segment on the GPU"]["fix"]
    assert fix.startswith("python -m pip install tensorrt or: install the one for CUDA")
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in fix


def test_onnxruntime_serves_a_gpu_that_no_tensorrt_does(machine: Machine) -> None:
    """What it needs is looked for, too; a build that names no CUDA is taken as it is."""
    machine.give_driver(gpus=1)
    runtime = (
        "__version__ = '1.23.0'\npackage_name = 'onnxruntime-gpu'\ncuda_version = {0!r}\n"
        "def get_available_providers():\n"
        "    return ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
    )
    machine.give(onnxruntime=runtime.format(""))
    _, _, abilities = machine.diagnosis()
    here = abilities["segment on the GPU"]
    assert here["works"] and here["how"] == "ONNX Runtime 1.23.0 with CUDA on Orin"
    machine.give(onnxruntime=runtime.format("13.0"))
    _, _, abilities = machine.diagnosis()
    here = abilities["segment on the GPU"]
    assert not here["works"] and "a driver for CUDA 12.6" in here["how"]
    machine.give(onnxruntime="import os; os.abort()\n")
    _, _, abilities = machine.diagnosis()
    assert "ONNX Runtime cannot be loaded" in abilities["segment on the GPU"]["how"]


def test_two_onnxruntimes_in_one_folder_are_noticed(machine: Machine) -> None:
    machine.give_driver(init=100)
    _, _, abilities = machine.diagnosis()
    assert "tell one ONNX Runtime from another" not in abilities
    for name, folder in (("openvino", "onnxruntime"), ("extensions", "onnxruntime_extensions")):
        info = machine.modules / f"onnxruntime_{name}-1.24.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: onnxruntime-{name}\nVersion: 1.24.1\n")
        (info / "RECORD").write_text(f"{folder}/__init__.py,,\n")
    _, _, abilities = machine.diagnosis()
    both = abilities["tell one ONNX Runtime from another"]
    assert "onnxruntime-openvino 1.24.1 fill the same folder" in both["how"]
    assert "extensions" not in both["how"] and "pip uninstall -y" in both["fix"]
    assert "&& python -m pip install 'onnxruntime-gpu[cuda,cudnn]'; for the CPU" in both["fix"]
    assert both["fix"].endswith("&& python -m pip install onnxruntime")


@pytest.mark.parametrize("gone", ["all of it", "its files"])
def test_no_onnxruntime_is_noticed_with_both_commands(machine: Machine, gone: str) -> None:
    """Neither of the two packages, or what removing one of both leaves: a folder without files."""
    machine.give_driver(gpus=1)
    if gone == "all of it":
        machine.take("onnxruntime")
    else:
        (machine.modules / "onnxruntime.py").unlink()
        (machine.modules / "onnxruntime").mkdir()
        (machine.modules / "onnxruntime" / "__init__.py").touch()
    _, _, abilities = machine.diagnosis()
    cpu, gpu = abilities["segment on the CPU"], abilities["segment on the GPU"]
    again = "" if gone == "all of it" else "--force-reinstall "
    assert not cpu["works"] and not gpu["works"]
    assert cpu["fix"] == f"python -m pip install {again}onnxruntime"
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in gpu["fix"]


def test_each_extra_says_what_it_would_enable(machine: Machine) -> None:
    machine.give_driver(init=100)
    _, libraries, abilities = machine.diagnosis()
    assert libraries["ray"]["state"] == libraries["pycocotools.mask"]["state"] == "missing"
    for extra in EXTRAS:
        ability = abilities[extra.enables.split(" (")[0]]
        packages = " ".join(extra.packages.values())
        assert not ability["works"] and f"(extra {extra.name})" in ability["how"]
        assert ability["fix"] == f"python -m pip install {packages}"
    machine.give(cv2="__version__ = '4.12.0'\n", starlette="__version__ = '0.47'\n")
    machine.give(ray="raise ImportError('libray.so: cannot open shared object file')\n")
    machine.give_package("pycocotools", "mask")
    _, _, abilities = machine.diagnosis()
    video = abilities["segment videos and cameras"]
    assert video["works"] and video["how"] == "cv2 4.12.0"
    assert abilities["take supports from boxes, scribbles and COCO, write COCO"]["works"]
    page = abilities["paint masks on a page"]
    assert page["how"] == "uvicorn is not installed (extra app)"
    assert page["fix"] == "python -m pip install uvicorn"
    sweep = abilities["sweep many images"]
    assert "ray is broken: " in sweep["how"] and "libray.so" in sweep["how"]
    assert sweep["fix"] == "python -m pip install --force-reinstall 'ray[data]' pyarrow"


def test_cameras_behind_gstreamer_need_pygobject_and_its_typelibs(machine: Machine) -> None:
    name = "read a Jetson's CSI camera and GStreamer pipelines"
    _, _, abilities = machine.diagnosis()
    assert not abilities[name]["works"] and "gi is not installed" in abilities[name]["how"]
    assert "apt install python3-gi gir1.2-gst" in abilities[name]["fix"]
    machine.give(
        gi="__version__ = '3.42.1'\n"
        "def require_version(name, version):\n"
        "    if name == 'GstApp':\n"
        "        raise ValueError('Namespace GstApp not available')\n"
    )
    _, _, abilities = machine.diagnosis()
    assert not abilities[name]["works"] and "GstApp not available" in abilities[name]["how"]
    machine.give(gi="__version__ = '3.42.1'\ndef require_version(name, version):\n    pass\n")
    _, _, abilities = machine.diagnosis()
    assert abilities[name]["works"] and abilities[name]["how"] == "PyGObject 3.42.1"


def test_the_extras_are_those_of_the_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for extra in EXTRAS:
        lines = config["options.extras_require"][extra.name].split()
        packages = {package.strip("'") for package in extra.packages.values()}
        assert {line.split(">=")[0] for line in lines} == packages


def test_the_plugin_toolchain(machine: Machine, tmp_path: Path) -> None:
    _, _, abilities = machine.diagnosis()
    plugin = abilities["build the correlation plugin"]
    assert not plugin["works"]
    assert "nvcc" in plugin["how"] and "c++" in plugin["how"]
    for program in ("nvcc", "c++"):
        (machine.programs / program).write_text("#!/bin/sh\n")
        (machine.programs / program).chmod(0o755)
    told, _, abilities = machine.diagnosis()
    tools = {tool["name"]: tool["path"] for tool in told["tools"]}
    assert tools["nvcc"] == str(machine.programs / "nvcc")
    assert tools["c++"] == str(machine.programs / "c++")
    plugin = abilities["build the correlation plugin"]
    assert plugin["works"] == bool(tools["NvInfer.h"])
    assert plugin["works"] or plugin["how"] == "missing: NvInfer.h"


def test_a_driver_that_crashes(machine: Machine) -> None:
    machine.give_driver(init=100)
    library = machine.driver / "libcuda.so.1"
    library.write_bytes(b"not a library")
    told, _, abilities = machine.diagnosis()
    assert told["driver"]["gpus"] == []
    assert "cannot be loaded" in told["driver"]["problem"]
    assert abilities["segment on the CPU"]["works"]


def test_the_readable_form(machine: Machine) -> None:
    text = machine.doctor(as_json=False)
    assert "yes segment on the CPU: ONNX Runtime 1.20.0" in text
    assert "mend it:" in text


def test_jetsons_and_cards_are_found_by_the_systems_files(tmp_path: Path) -> None:
    assert find_jetson(tmp_path) is None
    assert has_nvidia_card(tmp_path) is None
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "etc").mkdir()
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"
    (tmp_path / "etc/nv_tegra_release").write_text(release)
    found = find_jetson(tmp_path)
    assert found == "NVIDIA Jetson AGX Orin Developer Kit (L4T R36 (release), REVISION: 4.3)"
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1234\n")
    assert has_nvidia_card(tmp_path) is False
    (device / "vendor").write_text("0x10de\n")
    assert has_nvidia_card(tmp_path) is True
