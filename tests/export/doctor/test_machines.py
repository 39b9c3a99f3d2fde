"""The doctor on machines that are made up: without a GPU, a Jetson, a driver that crashes."""

from __future__ import annotations

from pathlib import Path

from helpers.fakes.machine import Machine

from hsnet_trt.runtime.device.machine import find_jetson, has_nvidia_card


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
