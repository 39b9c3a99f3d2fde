"""The commands of the README, one after the other, from a folder of a person's own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command import hsnet
from PIL import Image

from hsnet_trt.cli import demo

MASKS = Path(demo.__file__).parent / "demo_masks"


def test_from_a_checkpoint_to_a_mask(tmp_path):
    skimage = pytest.importorskip("skimage")
    photographs = Path(skimage.__file__).parent / "data"

    def run(*arguments: str) -> str:
        done = hsnet(*arguments, folder=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run("random-checkpoint", "--backbone", "resnet18", "model.pt")
    said = run("export", "--checkpoint", "model.pt", "--size", "96x128", "--out", "bundle")
    assert "in float64" in said
    bundle = "bundle"
    if importlib.util.find_spec("tensorrt_rtx"):
        bundle = "built"
        run(
            "build-engine", "bundle", "--target", "rtx-4090", "--precision", "fp32", "--out", bundle
        )
        engines = json.loads((tmp_path / bundle / "bundle.json").read_text())["engines"]
        assert {e["variant"]["graph"] for e in engines} == {"features", "support", "match"}
        assert {tuple(e["compute_capabilities"]) for e in engines} == {("8.9",)}
    said = run("verify", bundle, "--backend", "onnxruntime")
    assert "logits" in said
    left, right = (photographs / f"motorcycle_{side}.png" for side in ("left", "right"))
    support = f"motorcycle={left},{MASKS / 'motorcycle_left_mask.png'}"
    run("segment", bundle, str(right), "--support", support, "--out", "out")
    labels = np.asarray(Image.open(tmp_path / "out" / "motorcycle_right.png"))
    assert labels.shape == (500, 741)
    assert set(np.unique(labels)) <= {0, 1}
    assert Image.open(tmp_path / "out" / "motorcycle_right_overlay.jpg").size == (741, 500)
    assert "96x128" in run("inspect", bundle, "--json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "--checkpoint", "no.pt", "--out", "b"], ["no checkpoint", "fix"]),
        (["export", "--checkpoint", "junk.pt", "--out", "b"], ["junk.pt", "expected"]),
        (["export", "--checkpoint", "no.pt", "--size", "4x4x4", "--out", "b"], ["4x4x4"]),
        (["segment", "nothing", "x.jpg", "--support", "a=b,c"], ["no bundle", "fix"]),
        (["build-engine", "nothing", "--target", "rtx-4090"], ["no bundle"]),
        (["verify", "nothing"], ["no bundle"]),
        (["inspect", "nothing"], ["no bundle"]),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_errors_are_words_and_leave_nothing(tmp_path, arguments, words):
    (tmp_path / "junk.pt").write_bytes(b"not a checkpoint")
    done = hsnet(*arguments, folder=tmp_path, timeout=600)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for word in words:
        assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["junk.pt"]


def test_help_names_every_verb(tmp_path):
    said = hsnet("--help", folder=tmp_path).stdout
    for verb in ("export", "build-engine", "segment", "verify", "inspect", "doctor", "demo"):
        assert verb in said
