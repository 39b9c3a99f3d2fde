"""A bundle and a checkpoint, judged at a size, in a precision, refined or not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_sets.tiny_sets import write_folder, write_voc
from PIL import Image

from hsnet_trt.benchmarks.accuracy.emulated_bundle import emulated_bundle
from hsnet_trt.benchmarks.accuracy.judging import judge
from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError
from hsnet_trt.model.checkpoint import save_checkpoint
from hsnet_trt.model.hsnet import HSNet
from hsnet_trt.runtime.bundle import Bundle

SIZE = (64, 64)
pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker exports their bundle


@pytest.mark.parametrize("refine", [False, True])
def test_a_bundle_beside_its_checkpoint_at_the_queries_own_size(
    bundle: Path, checkpoint: Path, tmp_path: Path, refine: bool
) -> None:
    source = Source(("pascal",), root=write_voc(tmp_path / "voc"), shots=2, seed=0)
    accuracy = judge(
        bundle,
        source,
        tmp_path / "out",
        checkpoint=checkpoint,
        backend="onnxruntime",
        refine=refine,
        original_size=True,
        count=6,
        command="hsnet-trt evaluate ...",
    )
    reference, engine = accuracy.rows[:2]
    assert reference.name == "PyTorch fp32" and engine.name == "onnxruntime fp32"
    assert engine.changed is not None and engine.changed < 0.5
    assert abs(engine.miou.value - reference.miou.value) < 0.5
    assert accuracy.size == SIZE and accuracy.shots == 2 and accuracy.original_size
    kept = json.loads((tmp_path / "out/accuracy.json").read_text())
    by_content = [
        "colour histogram",
        "prototypes, stride 8",
        "prototypes, stride 16",
        "prototypes, stride 32",
        "prototypes, 16 + 32",
    ]
    names = ["all foreground", *by_content]
    names += [f"{name}, refined" for name in by_content if refine]
    assert [row["name"] for row in kept["rows"]][2:] == names
    assert kept["facts"]["command"] == "hsnet-trt evaluate ..."
    assert set(kept["rows"][0]["per_class"]) <= {
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
    }
    # Two supports, the truth, two answers.
    assert Image.open(tmp_path / "out/accuracy.png").size == (5 * 192, 6 * 192)
    assert "the queries' own size" in (tmp_path / "out/accuracy.md").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "accuracy.json",
        "accuracy.md",
        "accuracy.png",
    ]


@pytest.mark.parametrize(
    ("judged", "missing"), [("checkpoint", ["onnx"]), ("bundle", ["onnx", "torch"])]
)
def test_evaluate_runs_without_libraries_that_only_exporting_needs(
    judged: str, missing: list[str], blobs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As after `pip install '.[train]'`, and for a bundle on a device."""
    options = ["--data", f"folder:{blobs}", "--size", "64", "--episodes", "2"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing}))\n"
        "from hsnet_trt.cli.main import main\n"
        "main()\n"
    )
    model, out = request.getfixturevalue(judged), tmp_path / "out"
    subprocess.run(
        [sys.executable, "-c", code, "evaluate", str(model), *options, "--out", str(out)],
        check=True,
    )
    assert (out / "accuracy.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_report_of_classes_whose_names_are_not_utf8(
    bundle: Path, blobs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "classes"
    for number, folder in enumerate(sorted(blobs.iterdir())[:2]):
        shutil.copytree(folder, Path(os.fsdecode(os.fsencode(root) + b"/n\xe4h%d" % number)))
    judge(bundle, Source(("folder",), root=root), tmp_path / "out", count=2)
    assert r"n\udce4h0" in (tmp_path / "out/accuracy.md").read_text()


def test_masks_are_refined_if_the_checkpoint_or_the_caller_says_so(
    model: HSNet, blobs: Path, tmp_path: Path
) -> None:
    source, found = Source(("folder",), root=blobs, seed=0), {}
    for own in (False, True):
        save_checkpoint(model, tmp_path / f"{own}.pt", refine=own)
        for refine in (None, not own):
            judged = judge(
                tmp_path / f"{own}.pt", source, tmp_path / "out", size=SIZE, refine=refine, count=3
            )
            found[own, refine] = judged.rows[0].fb_iou.value
    assert found[False, None] == found[True, False]
    assert found[True, None] == found[False, True]
    assert found[True, None] != found[False, None]


def test_fp16_is_judged_as_it_rounds(bundle: Path, blobs: Path, tmp_path: Path) -> None:
    """Emulated, and as ONNX Runtime computes it on a CPU: near FP32, and not the same."""
    source = Source(("folder",), root=blobs, seed=0)
    accuracy = judge(
        bundle,
        source,
        tmp_path / "out",
        backend="onnxruntime",
        count=6,
        precisions=["fp32", "fp16-emulated", "fp16"],
    )
    exact, rounded, native = accuracy.rows[:3]
    assert [row.name for row in accuracy.rows[:3]] == [
        "onnxruntime fp32",
        "fp16, emulated",
        "onnxruntime fp16",
    ]
    for row in (rounded, native):
        assert row.changed is not None and row.changed < 1
        assert abs(row.miou.value - exact.miou.value) < 1
    with pytest.raises(InputError, match="no FP16 graphs"):
        judge(bundle, source, tmp_path / "out", precisions=["fp32-emulated"])
    opened = Bundle.open(bundle)
    with emulated_bundle(opened) as path:
        judged = Bundle.open(path)
        kinds = {t.dtype for g in judged.manifest.graphs for t in (*g.inputs, *g.outputs)}
        assert kinds == {"float32"}
        held = path
    assert not held.exists()


def test_other_weights_are_not_compared(bundle: Path, blobs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(HSNet("resnet18"), tmp_path / "other.pt")
    source = Source(("folder",), root=blobs)
    with pytest.raises(InputError, match="was not made from"):
        judge(bundle, source, tmp_path / "out", checkpoint=tmp_path / "other.pt")
    with pytest.raises(InputError, match="both checkpoints"):
        judge(tmp_path / "other.pt", source, tmp_path / "out", checkpoint=tmp_path / "other.pt")


def test_an_object_that_vanishes_is_left_out(bundle: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", size=(300, 300))
    speck = np.zeros((300, 300), np.bool_)
    speck[1, 1] = True  # 64 x 64 takes every fifth pixel or so
    Image.fromarray(speck).save(root / "class0/1.png")
    source = Source(("folder",), root=root)
    with pytest.raises(InputError, match=r"is empty: query .*, supports class0/1\.jpg"):
        judge(bundle, source, tmp_path / "out", backend="onnxruntime")
    judged = judge(bundle, source, tmp_path / "out", backend="onnxruntime", skip_bad=True)
    assert 4 <= judged.episodes < 8 and "class0/1.jpg" in judged.left_out[0]


@pytest.mark.parametrize(
    "given",
    [{"precisions": ["fp16"]}, {"backend": "onnxruntime"}],
    ids=lambda given: next(iter(given)),
)
def test_what_a_checkpoint_has_no_use_for_is_refused(
    given: dict[str, object], checkpoint: Path, blobs: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a checkpoint, which PyTorch runs"):
        judge(checkpoint, Source(("folder",), root=blobs), tmp_path / "out", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [{"contrast": 0.0}, {"self_support": 0.0}, {"weights": "ema"}, {"device": "cuda"}],
    ids=lambda given: next(iter(given)),
)
def test_what_a_bundle_has_no_use_for_is_refused(
    given: dict[str, object], bundle: Path, blobs: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a bundle, whose weights are fixed"):
        judge(bundle, Source(("folder",), root=blobs), tmp_path / "out", **given)  # type: ignore[arg-type]
