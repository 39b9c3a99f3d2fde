"""What each extra and each program would enable, as the doctor says it."""

from __future__ import annotations

import configparser
from pathlib import Path

from helpers.fakes.machine import Machine
from helpers.places import ROOT

from hsnet_trt.export.doctor.extras import EXTRAS


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
