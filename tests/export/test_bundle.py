"""What `export` writes: valid graphs of the promised form, that compute what PyTorch does."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from helpers.graphs.rows import in_rows

from hsnet_trt.errors import BundleError, ExportError, InputError
from hsnet_trt.export import bundle as export_module
from hsnet_trt.export.bundle import export_bundle
from hsnet_trt.export.graphs.parity import TOLERANCE
from hsnet_trt.export.graphs.probe import normalise
from hsnet_trt.model.checkpoint import weights_sha256
from hsnet_trt.runtime.bundle import Bundle

SIZE = (64, 96)
pytestmark = pytest.mark.xdist_group("real bundle")  # exported once, by one worker


def test_manifest(real_bundle, resnet18):
    manifest = Bundle.open(real_bundle).manifest
    assert manifest.model.backbone == "resnet18"
    assert manifest.model.weights_sha256 == weights_sha256(resnet18)
    assert manifest.model.trained is False
    assert manifest.sizes == (SIZE,)
    assert manifest.commands == ("a test's",)
    kinds = [
        (g.variant.graph, g.variant.lowering, g.variant.correlation, g.variant.precision)
        for g in manifest.graphs
    ]
    assert kinds == [
        (*form, precision)
        for form in (
            ("features", "", ""),
            ("support", "", ""),
            ("match", "conv2d", "native"),
            ("match", "conv2d", "plugin"),
            ("match", "conv3d", "native"),
        )
        for precision in ("fp32", "fp16")
    ]
    assert json.loads(manifest.to_json())["format_version"] == 2


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16")])
def test_names_and_shapes(real_bundle, precision, dtype):
    by_name = {
        g.variant.graph: g
        for g in Bundle.open(real_bundle).manifest.graphs
        if g.variant.precision == precision
    }
    level2, level3, level4 = (2, 128, 96), (2, 256, 32), (2, 512, 16)

    def shapes(specs):
        assert {spec.dtype for spec in specs} == {dtype}
        return {spec.name: spec.shape for spec in specs}

    def levels(letter, batch):
        return {
            f"{letter}{i}": (batch, *level)
            for i, level in zip((2, 3, 4), (level2, level3, level4), strict=True)
        }

    assert shapes(by_name["features"].inputs) == {"image": ("N", 3, 64, 96)}
    assert shapes(by_name["features"].outputs) == levels("f", "N")
    assert shapes(by_name["support"].inputs) == levels("f", "S") | {"mask": ("S", 64, 96)}
    assert shapes(by_name["support"].outputs) == levels("s", "S")
    assert shapes(by_name["match"].inputs) == levels("f", "B") | levels("s", "S")
    assert shapes(by_name["match"].outputs) == {"logits": ("B", "S", 2, 16, 24)}
    assert {entry.grids for entry in by_name.values()} == {((8, 12), (4, 6), (2, 3))}


def test_form_of_the_graphs(graphs):
    for name, graph in graphs.items():
        onnx.checker.check_model(graph, full_check=True)
        plugin = name.endswith("_plugin")
        domains = {("", 18), ("hsnet", 1)} if plugin else {("", 18)}
        assert {(o.domain, o.version) for o in graph.opset_import} == domains
        assert graph.ir_version <= 10
        assert [f.name for f in graph.functions] == ["HyperCorrelation"] * plugin
        kinds = {node.op_type for node in graph.graph.node}
        assert not kinds & {"BatchNormalization", "GroupNormalization", "Identity", "If", "Loop"}
        facts = {p.key: p.value for p in graph.metadata_props}
        assert facts["backbone"] == "resnet18"
        assert facts["size"] == "64x96"
        assert len(facts["weights_sha256"]) == 64
        inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True)
        ranks = [len(v.type.tensor_type.shape.dim) for v in inferred.graph.value_info]
        assert max(ranks) <= 8, name


def test_large_tensors_are_never_permuted_or_joined(graphs):
    """conv2d permutes the full correlation once, conv3d never; nothing of that size is joined."""
    for lowering, allowed in (("conv2d", 1), ("conv3d", 0)):
        graph = graphs[f"match_64x96_fp32_{lowering}"]
        fixed = onnx.ModelProto()
        fixed.CopyFrom(graph)
        for value in (*fixed.graph.input, *fixed.graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_value = 1
        inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
        sizes = {
            v.name: np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in inferred.value_info
        }
        full = 2 * 96 * 96  # two layers of level 2, every position with every other
        assert full in sizes.values()
        moved = [
            n.op_type
            for n in graph.graph.node
            if n.op_type in ("Transpose", "Concat") and sizes.get(n.output[0]) == full
        ]
        assert len(moved) == allowed, (lowering, moved)


def test_parity_figures(real_bundle):
    manifest = Bundle.open(real_bundle).manifest
    runs = {
        (f.lowering, f.correlation, f.precision, f.arithmetic, f.against, f.queries, f.supports)
        for f in manifest.parity
    }
    rounds = (
        ("fp32", "onnxruntime", ((1, 1), (2, 3), (3, 2))),
        ("fp16", "emulated", ((1, 1), (1, 2))),
        ("fp16", "onnxruntime", ((1, 1),)),
    )
    assert runs == {
        (*form, precision, arithmetic, f"torch-{kind}", b, s)
        for form in (("conv2d", "native"), ("conv2d", "plugin"), ("conv3d", "native"))
        for kind in ("float32", "float64")
        for precision, arithmetic, batches in rounds
        for b, s in batches
    }
    for figure in manifest.parity:
        assert figure.logits_std > 0.01
        largest = {"fp32": 1e-4, "fp16": 2e-2}[figure.precision] * figure.logits_std
        assert figure.p999_difference <= figure.max_difference < largest
        assert figure.flipped < 1e-2


def test_golden_outputs_are_those_of_the_model(real_bundle, resnet18):
    bundle = Bundle.open(real_bundle)
    (entry,) = bundle.manifest.golden
    assert entry.tolerance == TOLERANCE
    with np.load(real_bundle / entry.file, allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["queries"].shape == arrays["supports"].shape == (2, *SIZE, 3)
    masks = torch.from_numpy(arrays["masks"]).float()
    with torch.no_grad():
        query = resnet18.features(normalise(arrays["queries"]))
        encoded = resnet18.support(resnet18.features(normalise(arrays["supports"])), masks)
        logits = resnet18.match(query, encoded, SIZE)
    np.testing.assert_allclose(arrays["logits"], logits.numpy(), atol=1e-5)
    for name, tensor in zip(("f2", "f3", "f4", "s2", "s3", "s4"), (*query, *encoded), strict=True):
        picked = in_rows(tensor).numpy().ravel()[arrays[f"{name}_index"]]
        np.testing.assert_allclose(arrays[name], picked, atol=1e-5)


def test_a_wrong_graph_is_refused_with_the_figures(resnet18, graphs, tmp_path, monkeypatch):
    """A weight that is lost on the way must show, and nothing may be written."""
    made = dict(graphs)

    def damaged(*args):
        graph = onnx.ModelProto()
        graph.CopyFrom(made["match_64x96_fp32_conv2d"])
        weight = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
        weight.raw_data = np.zeros(len(weight.raw_data) // 4, np.float32).tobytes()
        return graph

    monkeypatch.setattr(export_module, "export_features", lambda *a: made["features_64x96_fp32"])
    monkeypatch.setattr(export_module, "export_support", lambda *a: made["support_64x96_fp32"])
    monkeypatch.setattr(export_module, "export_match", damaged)
    with pytest.raises(ExportError) as error:
        export_bundle(resnet18, tmp_path / "bundle", sizes=[SIZE])
    assert "99.9 % of them within" in error.value.expected
    assert "1 queries and 1 supports at 64x96" in error.value.found
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_refines_masks_if_the_model_does(real_bundle, resnet18, tmp_path, monkeypatch):
    assert not Bundle.open(real_bundle).manifest.refine
    monkeypatch.setattr(resnet18, "refine", True)
    form = {"lowerings": ["packed"], "correlations": ["native"], "precisions": ["fp32"]}
    export_bundle(resnet18, tmp_path / "b", sizes=[(64, 64)], **form)
    assert Bundle.open(tmp_path / "b").manifest.refine


def test_a_failed_export_leaves_the_old_bundle(resnet18, real_bundle, tmp_path, monkeypatch):
    old = tmp_path / "bundle"
    subprocess.run(["cp", "-r", str(real_bundle), str(old)], check=True)
    before = (old / "bundle.json").read_bytes()

    def broken(*args):
        raise ExportError("no")

    monkeypatch.setattr(export_module, "export_features", broken)
    with pytest.raises(ExportError):
        export_bundle(resnet18, old, sizes=[(64, 64)])
    assert (old / "bundle.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    Bundle.open(old).check()


def test_a_folder_of_something_else_is_not_replaced(resnet18, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="in the way"):
        export_bundle(resnet18, tmp_path, sizes=[(64, 64)])
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": [(32, 64)]},
        {"sizes": [(64, 4096)]},
        {"sizes": []},
        {"lowerings": ["conv4d"]},
        {"lowerings": []},
        {"correlations": ["cublas"]},
        {"correlations": []},
        {"precisions": ["int8"]},
        {"precisions": []},
        {"lowerings": ["conv3d"], "correlations": ["plugin"]},
        {"resize": "crop"},
        {"lowerings": ["packed"], "precisions": ["fp16"]},  # no match would be left
    ],
)
def test_impossible_exports_are_refused(resnet18, tmp_path, wrong):
    with pytest.raises(InputError) as error:
        export_bundle(resnet18, tmp_path / "bundle", **wrong)
    assert error.value.expected
    for words in wrong.values():  # what was wrong is named, and it alone
        if isinstance(words, list) and len(wrong) == 1 and words and isinstance(words[0], str):
            assert error.value.found == words[0]
    assert not list(tmp_path.iterdir())


def test_export_is_lazy():
    """`build-engine` runs on a Jetson: importing the package must bring neither torch nor onnx."""
    code = (
        "import sys, hsnet_trt.export, hsnet_trt.export.build_engine;"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'tensorrt_rtx') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
