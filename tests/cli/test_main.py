"""How the command meets a library that is not installed: it names the extra of the verb."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT

from hsnet_trt.cli.main import _EXTRAS, VERBS, _remedy, app

# What pip installs, where its name is not the module's.
PACKAGES = {
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "tensorrt_rtx": "tensorrt-rtx",
    "tritonclient": "tritonclient[grpc]",
    "ray": "ray[data]",
}


@pytest.mark.parametrize(
    ("verb", "module", "extra"),
    [
        ("video", "cv2", "video"),
        ("train", "cv2", "train"),
        ("evaluate", "cv2", "data"),
        ("demo", "skimage", "demo"),
        ("segment", "pycocotools.mask", "labels"),
    ],
)
def test_the_extra_of_the_verb(verb: str, module: str, extra: str) -> None:
    assert _remedy(module, verb) == f"pip install 'hsnet-trt[{extra}]'"


def test_a_video_without_opencv(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['cv2'] = None\n")
    (tmp_path / "in.mp4").write_bytes(b"any")
    typed = "video bundle --input in.mp4 --support x=a.png,b.png"
    done = subprocess.run(
        [sys.executable, "-m", "hsnet_trt.cli.main", *typed.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cv2 is not installed" in done.stderr
    assert "pip install 'hsnet-trt[video]'" in done.stderr


def test_each_extra_brings_the_module_that_it_is_named_for() -> None:
    """Judged by setup.cfg, with extras that an extra holds."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = dict(config["options.extras_require"])
    for module, names in _EXTRAS.items():
        package = PACKAGES.get(module, module)
        for name in names:
            text = extras[name]
            for inner in ("data", "calibrate", "train"):
                text += extras[inner] if f"hsnet-trt[{inner}]" in text else ""
            brought = [line.split(">")[0].strip() for line in text.splitlines()]
            assert package in brought, (module, name)


def test_verbs_are_named_as_the_documents_name_them() -> None:
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    assert {"segment", "video", "app", "build_engine", "inspect", "export_triton"} <= set(names)


def test_each_file_is_a_verb_with_a_purpose() -> None:
    files = {path.stem for path in (ROOT / "cli").glob("*.py")} - {"__init__", "main"}
    listed = [verb.__module__.rpartition(".")[2] for verbs in VERBS.values() for verb in verbs]
    assert sorted(listed) == sorted(files)
