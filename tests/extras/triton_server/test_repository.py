"""What `export-triton` writes, read back with Triton's own schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.bundles.half import both, half
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE, make_graph

from hsnet_trt.errors import BundleError, ExportError, InputError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, ProfileRange, Variant
from hsnet_trt.serving.triton_server.config import to_text
from hsnet_trt.serving.triton_server.repository import export_repository

model_config_pb2 = pytest.importorskip(
    "tritonclient.grpc.model_config_pb2", reason="the extra `triton` is not installed"
)
text_format = pytest.importorskip("google.protobuf.text_format")

LIBRARY, KERNELS = b"\x7fELF and more", b"\x50\xed\x55\xba and more"
PROFILES = {
    "features": {"N": ProfileRange(1, 1, 4)},
    "support": {"S": ProfileRange(1, 1, 4)},
    "match": {"B": ProfileRange(1, 1, 4), "S": ProfileRange(1, 1, 5)},
}


def engines(
    path: Path,
    capability: str,
    *,
    flavour: str = "tensorrt",
    version: str = "10.9.0.34",
    plugin: bytes | None = None,
    halves: Sequence[str] = (),
    **options: object,
) -> Path:
    """A bundle with three made-up engines: what Triton gets is copied, not looked into.

    Those of `halves` are in FP16, the others in FP32.
    """
    extra: dict[str, bytes] = {"plugins/plugin": plugin} if plugin else {}
    entries, graphs = [], []
    for graph, profile in PROFILES.items():
        precision = "fp16" if graph in halves else "fp32"
        entry, content = half(graph) if graph in halves else make_graph(graph, SIZE)[::-1]
        graphs.append(entry)
        extra[entry.file] = content
        file = f"engines/{graph}_{capability}.plan"
        extra[file] = f"{graph} for {capability}".encode()
        entries.append(
            EngineFile(
                variant=Variant(graph, SIZE, precision, "conv2d", "native"),
                file=file,
                target=f"sm{capability}",
                flavour=flavour,
                version=version,
                compute_capabilities=(capability,),
                platform="linux-x86_64",
                profile=profile,
                build_seconds=1.0,
                plugin="plugins/plugin" if plugin and graph == "match" else None,
            )
        )
    changes = {"engines": tuple(entries), "graphs": tuple(graphs)}
    return make_bundle(path, extra=extra, replace=changes, **options)


def read(repository: Path, model: str):
    text = (repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_engines_of_several_bundles(tmp_path):
    bundles = [engines(tmp_path / name, cc) for name, cc in (("ada", "8.9"), ("hopper", "9.0"))]
    repository = export_repository(bundles, tmp_path / "repo")
    assert repository.platform == "tensorrt" and repository.tensorrt == "10.9.0.34"
    assert repository.capabilities == ("8.9", "9.0") and not repository.plugin
    assert repository.models == ("hsnet_features", "hsnet_support", "hsnet_match", "hsnet")
    manifest = Bundle.open(bundles[0]).manifest
    for graph in PROFILES:
        name = f"hsnet_{graph}"
        config = read(repository.path, name)
        assert config.name == name and config.backend == "tensorrt"
        assert dict(config.cc_model_filenames) == {
            "8.9": "model_sm89.plan",
            "9.0": "model_sm90.plan",
        }
        for capability, file in config.cc_model_filenames.items():
            content = (repository.path / name / "1" / file).read_bytes()
            assert content == f"{graph} for {capability}".encode()
        (entry,) = (g for g in manifest.graphs if g.variant.graph == graph)
        for tensors, specs in ((config.input, entry.inputs), (config.output, entry.outputs)):
            assert [t.name for t in tensors] == [s.name for s in specs]
            for tensor, spec in zip(tensors, specs, strict=True):
                dims = [n if isinstance(n, int) else -1 for n in spec.shape]
                assert list(tensor.dims) == (dims if graph == "match" else dims[1:])
                assert tensor.data_type == model_config_pb2.TYPE_FP32
        # Never more than the engines' profile; `match` has two dynamic dimensions.
        assert config.max_batch_size == {"features": 4, "support": 4, "match": 0}[graph]
        assert config.HasField("dynamic_batching") == (graph != "match")
        assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
        (warmup,) = config.model_warmup
        assert set(warmup.inputs) == {s.name for s in entry.inputs}
        assert all(min(i.dims) >= 1 and i.zero_data for i in warmup.inputs.values())
        assert config.version_policy.latest.num_versions == 2
    config = read(repository.path, "hsnet")
    assert config.instance_group[0].count == 1  # a second one would not know the first one's sets
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert config.parameters["supports"].string_value == "5"
    assert config.parameters["bytes_per_shot"].string_value == str(4 * 2 * 3 * (192 + 48 + 16))


def test_the_first_platform_that_there_is(tmp_path, bundle):
    rtx = engines(tmp_path / "rtx", "8.9", flavour="tensorrt_rtx")
    for source in (bundle, rtx):  # engines of TensorRT for RTX are not for Triton
        repository = export_repository([source], tmp_path / source.name)
        assert repository.platform == "onnxruntime"
        config = read(repository.path, "hsnet_match")
        assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
        with pytest.raises(ExportError, match="nothing that Triton could serve") as caught:
            export_repository([source], tmp_path / "none", ["tensorrt"])
        assert "hold no three TensorRT engines" in str(caught.value)
    with pytest.raises(InputError, match="no such platform"):
        export_repository([bundle], tmp_path / "none", ["openvino"])
    assert not (tmp_path / "none").exists()


def test_onnxruntime_on_gpus_alone(tmp_path):
    source = both(tmp_path / "bundle")
    for platform, kind in (("onnxruntime_cuda", "TYPE_FP16"), ("onnxruntime", "TYPE_FP32")):
        out = export_repository([source], tmp_path / platform, [platform]).path
        config = read(out, "hsnet_match")
        assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
        assert config.input[0].data_type == model_config_pb2.DataType.Value(kind)
        accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
        on_gpus = config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
        assert on_gpus == (platform == "onnxruntime_cuda")
        assert [a.name for a in accelerators] == ["cuda"] * on_gpus
        assert all(a.parameters["use_tf32"] == "0" for a in accelerators)


def test_the_plugin_is_listed(tmp_path):
    bundle = engines(tmp_path / "bundle", "8.9", plugin=LIBRARY)
    repository = export_repository([bundle], tmp_path / "repo")
    library = repository.path / "hsnet_match" / "libhsnet_correlation.so"
    assert library.read_bytes() == LIBRARY
    assert repository.command[-1] == f"--backend-config=tensorrt,plugins={library}"
    assert (
        read(repository.path, "hsnet_match").parameters["plugin"].string_value
        == "libhsnet_correlation.so"
    )
    kernels = engines(tmp_path / "kernels", "8.9", plugin=KERNELS)
    with pytest.raises(ExportError) as caught:
        export_repository([kernels], tmp_path / "other", ["tensorrt"])
    assert "compiled kernels only" in str(caught.value)


def test_what_does_not_belong_together(tmp_path):
    first = engines(tmp_path / "first", "8.9")
    older = engines(tmp_path / "older", "9.0", version="10.3.0")
    with pytest.raises(ExportError) as caught:
        export_repository([first, older], tmp_path / "repo", ["tensorrt"])
    assert "10.3.0, 10.9.0.34" in str(caught.value)
    other = engines(tmp_path / "other", "9.0", weights="cd" * 32)
    with pytest.raises(InputError, match="another network") as wrong:
        export_repository([first, other], tmp_path / "repo")
    assert "another weights" in str(wrong.value)
    plan = first / "engines" / "match_8.9.plan"
    plan.write_bytes(plan.read_bytes()[::-1])
    with pytest.raises(BundleError, match="altered"):
        export_repository([first], tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_support_has_no_weights_and_may_be_of_another_precision(tmp_path):
    """As in the runtime. One configuration serves every GPU, so theirs must be of one precision."""
    source = engines(tmp_path / "ada", "8.9", halves=["support"])
    repository = export_repository([source], tmp_path / "repo", ["tensorrt"], precision="fp32")
    kinds = {
        graph: {t.data_type for t in read(repository.path, f"hsnet_{graph}").output}
        for graph in PROFILES
    }
    whole, half_ = ({model_config_pb2.DataType.Value(f"TYPE_FP{bits}")} for bits in (32, 16))
    assert kinds == {"features": whole, "support": half_, "match": whole}
    other = engines(tmp_path / "hopper", "9.0")
    with pytest.raises(ExportError) as caught:
        export_repository([source, other], tmp_path / "both", ["tensorrt"], precision="fp32")
    assert "8.9 and 9.0 take different tensors in support" in str(caught.value)
    assert not (tmp_path / "both").exists()


def test_versions_keep_what_was_tuned(tmp_path, bundle):
    out = tmp_path / "repo"
    export_repository([bundle], out, ["onnxruntime"])
    path = out / "hsnet" / "config.pbtxt"
    tuned = read(out, "hsnet")
    tuned.parameters["store_megabytes"].string_value = "123"
    tuned.dynamic_batching.max_queue_delay_microseconds = 7
    path.write_text(text_format.MessageToString(tuned))
    assert export_repository([bundle], out, ["onnxruntime"]).version == 2
    assert read(out, "hsnet") == tuned
    for model in ("hsnet", "hsnet_features", "hsnet_support", "hsnet_match"):
        assert sorted(p.name for p in (out / model).iterdir()) == ["1", "2", "config.pbtxt"]
    # Another shape, or another platform, would need another configuration.
    larger = make_bundle(tmp_path / "larger", sizes=((128, 128),))
    before = sorted(out.rglob("*"))
    for source, platform in ((larger, "onnxruntime"), (bundle, "python")):
        with pytest.raises(ExportError, match="other shapes") as caught:
            export_repository([source], out, [platform])
        assert "--name" in str(caught.value)
    assert sorted(out.rglob("*")) == before
    beside = export_repository([larger], out, ["onnxruntime"], prefix="large")
    assert beside.models[-1] == "large" and (out / "large_match" / "1" / "model.onnx").is_file()


def test_something_else_in_the_way(tmp_path, bundle):
    (tmp_path / "repo" / "hsnet").mkdir(parents=True)
    (tmp_path / "repo" / "hsnet" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="in the way"):
        export_repository([bundle], tmp_path / "repo", ["python"])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="is a file"):
        export_repository([bundle], tmp_path / "file", ["python"])
    with pytest.raises(InputError, match="plain name"):
        export_repository([bundle], tmp_path / "other", ["python"], prefix="../hsnet")


def test_the_schema_refuses_what_triton_does_not_know():
    with pytest.raises(ExportError, match="schema refuses"):
        to_text({"name": "hsnet", "max_batch": 3})
    with pytest.raises(ExportError, match="schema refuses"):
        to_text({"name": "hsnet", "input": [{"name": "x", "data_type": "TYPE_FLOAT", "dims": [1]}]})


def test_the_command(tmp_path, bundle):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hsnet_trt.cli.main", "export-triton", str(bundle)),
            *("--out", "repo", "--platforms", "tensorrt, python", "--name", "rock"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "repo")
    assert f"tritonserver --model-repository={tmp_path / 'repo'}" in done.stderr
    assert "rock: version 1, python" in done.stderr
