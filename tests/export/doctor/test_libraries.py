"""The doctor against libraries that abort, that are missing, or of which there are two."""

from __future__ import annotations

import pytest
from helpers.fakes.machine import Machine


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
