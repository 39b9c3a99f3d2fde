"""`hsnet-trt build-engine` and its twin, as a person runs them: another process, another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.bundles.real_contract import write_small_bundle
from helpers.places import ROOT

from hsnet_trt.runtime.bundle import Bundle

VERB = ["-c", "from hsnet_trt.cli.main import main; main()"]
FORMS = {"verb": [*VERB, "build-engine"], "twin": ["-m", "hsnet_trt.export.build_engine"]}
BARE = "import sys\nfor name in ('torch', 'onnx'): sys.modules[name] = None\n"  # as on a Jetson


def run(command: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where neither torch nor onnx can be imported."""
    bare = folder / ".bare"
    bare.mkdir(exist_ok=True)
    (bare / "sitecustomize.py").write_text(BARE)
    return subprocess.run(
        [sys.executable, *command, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(bare), str(ROOT)]), "COLUMNS": "300"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", FORMS)
def test_engines_are_built_with_all_options(form: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")
    write_small_bundle(tmp_path / "bundle")
    done = run(
        FORMS[form],
        *("bundle", "--target", "rtx-4090", "--precision", "fp16", "--out", "built"),
        *("--queries", "1:2:3", "--supports", "2", "--size", "64", "--lowering", "conv2d"),
        *("--workspace", "64MiB", "--level", "2", "--flavour", "tensorrt_rtx", "--tf32"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "match 64x64 fp16 conv2d native" in done.stderr
    built = Bundle.open(tmp_path / "built").manifest
    profile = built.engines[-1].profile
    assert (profile["B"].expected, profile["S"].least, profile["S"].most) == (2, 2, 2)
    assert built.commands[-1].startswith("hsnet-trt build-engine bundle --target rtx-4090")
    assert "--workspace 64MiB --level 2" in built.commands[-1]
    if form == "twin":  # which wrote what the verb writes
        return
    shown = run(VERB, "inspect", "built", "--json", folder=tmp_path)
    assert len(json.loads(shown.stdout)["engines"]) == 3
    shown = run(VERB, "inspect", "built", folder=tmp_path)
    assert "rtx-4090" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--target", "rtx-4090"], "no bundle at nowhere"),
        (["bundle", "--target", "gtx-970"], "no target called 'gtx-970'"),
        (["bundle", "--target", "rtx-4090", "--size", "big"], "the size is not valid"),
        (["bundle", "--target", "rtx-4090", "--workspace", "much"], "the amount of memory"),
        (["bundle", "--target", "agx-orin-64gb", "--flavour", "tensorrt_rtx"], "does not support"),
    ],
)
def test_errors_are_read_by_people(tmp_path: Path, arguments: list[str], words: str) -> None:
    write_small_bundle(tmp_path / "bundle", ("fp32",))
    done = run(FORMS["verb"], *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == [".bare", "bundle"]
