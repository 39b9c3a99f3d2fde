"""Engines with the correlation plugin: which file runs it, which graph is parsed, what is kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles.real_contract import KERNELS, SIZE, calls, write_small_bundle

from hsnet_trt.errors import BuildError, BundleError, InputError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines import plugin_files
from hsnet_trt.export.engines.options import EngineSpec
from hsnet_trt.export.engines.plugin_files import KERNELS_NAME, choose_plugin, library_name
from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.bundle.manifest import ProfileRange
from hsnet_trt.runtime.engines.compatibility import Host, misfit

LIBRARY = b"\x7fELF, and the rest of a library"
WHOLE, BARE = b"HyperCorrelation with its function", b"HyperCorrelation alone"


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine where neither `make plugin` nor nvcc ever ran."""
    monkeypatch.setattr(plugin_files, "BUILT_LIBRARY", tmp_path / "build" / "none.so")
    monkeypatch.setattr(plugin_files, "compiled_kernels", lambda: None)


def plugin_bundle(path: Path, **files: bytes) -> Bundle:
    """A small bundle with a plugin's form of `match`, for a builder that is not one."""
    native = write_small_bundle(path.with_name("native"), ("fp32",))
    graph = native.graph("match", SIZE)
    with write_bundle(path) as writer:
        for name in native.manifest.files:
            writer.add(name, native.read(name))
        plugin = dataclasses.replace(
            graph,
            variant=dataclasses.replace(graph.variant, correlation="plugin"),
            file=writer.add("graphs/plugin.onnx", WHOLE),
            bare=writer.add("graphs/bare.onnx", BARE),
        )
        for name, content in files.items():
            writer.add(name, content)
        graphs = (*native.manifest.graphs, plugin)
        writer.finish(dataclasses.replace(native.manifest, graphs=graphs))
    return Bundle.open(path)


# --- Which file ---------------------------------------------------------------------------------


def test_the_plugin_is_looked_for_from_the_nearest_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = plugin_bundle(tmp_path / "bare")
    with pytest.raises(BuildError, match="no correlation plugin") as caught:
        choose_plugin(bare, None)
    assert "make plugin" in str(caught.value.fix)
    assert "--correlation native" in str(caught.value.fix)
    monkeypatch.setattr(plugin_files, "compiled_kernels", lambda: KERNELS + b" now")
    assert choose_plugin(bare, None) == (KERNELS_NAME, KERNELS + b" now")
    held = plugin_bundle(tmp_path / "held", **{KERNELS_NAME: KERNELS})
    assert choose_plugin(held, None) == (KERNELS_NAME, KERNELS)
    built = tmp_path / "libhsnet_correlation.so"
    built.write_bytes(LIBRARY)
    monkeypatch.setattr(plugin_files, "BUILT_LIBRARY", built)
    assert choose_plugin(held, None) == (library_name(), LIBRARY)
    own = plugin_bundle(tmp_path / "own", **{library_name(): LIBRARY + b" of the bundle"})
    assert choose_plugin(own, None) == (library_name(), LIBRARY + b" of the bundle")
    given = tmp_path / "given"
    given.write_bytes(KERNELS + b" given")
    assert choose_plugin(own, given) == (KERNELS_NAME, KERNELS + b" given")


def test_a_library_for_another_platform_is_left_alone(tmp_path: Path) -> None:
    name = "plugins/linux-riscv64/libhsnet_correlation.so"
    bundle = plugin_bundle(tmp_path / "b", **{name: LIBRARY, KERNELS_NAME: KERNELS})
    assert choose_plugin(bundle, None) == (KERNELS_NAME, KERNELS)


@pytest.mark.parametrize("content", [None, b"\x89PNG"])
def test_a_given_file_that_is_no_plugin(tmp_path: Path, content: bytes | None) -> None:
    bundle = plugin_bundle(tmp_path / "b")
    if content is not None:
        (tmp_path / "photo").write_bytes(content)
    with pytest.raises(InputError, match="photo"):
        choose_plugin(bundle, tmp_path / "photo")


# --- A TensorRT that is not there: 10.3, and with the override of 10.15 -------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libhsnet_correlation.so"
    path.write_bytes(LIBRARY)
    return path


def plugin_layers(built: Bundle) -> int:
    engine = built.manifest.engines[-1]
    layers: list[dict[str, Any]] = json.loads(built.read(engine.record))["layers"]
    return sum(layer["count"] for layer in layers if layer["type"] == "PLUGIN_V3")


@pytest.mark.parametrize("overrides", [False, True])
def test_a_graph_that_this_tensorrt_gives_to_the_plugin(
    orin: Path,
    tmp_path: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: bool,
) -> None:
    """Without the flag, only the graph without the function makes plugin layers."""
    if overrides:
        monkeypatch.setenv("FAKE_TENSORRT_OVERRIDES", "1")
    bundle = plugin_bundle(tmp_path / "b")
    built = build_engine(bundle.path, "this", spec=EngineSpec(correlation="plugin", plugin=library))
    recorded = calls(orin)
    assert recorded["library"].encode("latin-1") == LIBRARY
    assert recorded.get("parser_flags", []) == ["ENABLE_PLUGIN_OVERRIDE"] * overrides
    assert plugin_layers(built) == 3
    assert [e.plugin for e in built.manifest.engines] == [None, None, library_name()]
    assert built.read(library_name()) == LIBRARY


def test_native_is_built_without_a_plugin(orin: Path, tmp_path: Path, library: Path) -> None:
    bundle = plugin_bundle(tmp_path / "b", **{KERNELS_NAME: KERNELS})
    built = build_engine(bundle.path, "this", spec=EngineSpec(correlation="native"))
    assert "library" not in calls(orin)
    assert [e.plugin for e in built.manifest.engines] == [None] * 3
    assert plugin_layers(built) == 0
    by_default = build_engine(bundle.path, "this", out=tmp_path / "default")
    assert by_default.manifest.engines[-1].variant.correlation == "native"
    with pytest.raises(InputError, match="no use for one"):
        build_engine(bundle.path, "this", spec=EngineSpec(plugin=library))


def test_engines_of_both_stand_side_by_side(orin: Path, tmp_path: Path, library: Path) -> None:
    bundle = plugin_bundle(tmp_path / "b")
    build_engine(bundle.path, "this", spec=EngineSpec(correlation="native"))
    both = build_engine(bundle.path, "this", spec=EngineSpec(correlation="plugin", plugin=library))
    matches = [e for e in both.manifest.engines if e.variant.graph == "match"]
    assert [(e.variant.correlation, e.plugin) for e in matches] == [
        ("native", None),
        ("plugin", library_name()),
    ]
    again = build_engine(bundle.path, "this", spec=EngineSpec(correlation="native"))
    assert again.read(library_name()) == LIBRARY


def test_a_graph_without_the_op_is_not_passed_off_as_one_with_it(
    orin: Path,
    tmp_path: Path,
    library: Path,
) -> None:
    bundle = plugin_bundle(tmp_path / "b", **{"graphs/bare.onnx": b"neither"})
    with pytest.raises(BuildError, match="0 layers of the parsed network are plugins, 3 were"):
        build_engine(bundle.path, "this", spec=EngineSpec(correlation="plugin", plugin=library))
    assert not Bundle.open(bundle.path).manifest.engines


def test_a_bundle_without_the_plugins_graphs(orin: Path, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "b", ("fp32",))
    with pytest.raises(BundleError, match="does not hold the graph") as caught:
        build_engine(bundle.path, "this", spec=EngineSpec(correlation="plugin"))
    assert "plugin" in str(caught.value.expected)


# --- TensorRT for RTX itself --------------------------------------------------------------------


@pytest.mark.xdist_group("real bundle")
def test_rtx_engines_hold_the_plugin(real_bundle: Path, tmp_path: Path) -> None:
    """A real network; the parser's process would abort if nobody helped it find its library."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not made for this platform")
    two = ProfileRange(1, 1, 2)
    built = build_engine(
        real_bundle,
        "rtx-4090",
        out=tmp_path / "out",
        spec=EngineSpec(correlation="plugin", queries=two),
    )
    assert plugin_layers(built) == 3
    engine = built.manifest.engines[-1]
    assert engine.plugin == KERNELS_NAME
    assert built.read(KERNELS_NAME) == KERNELS
    host = Host("tensorrt_rtx", engine.version, "8.9", engine.platform)
    assert misfit(engine, host) is None
    native = build_engine(
        built.path, "rtx-4090", spec=EngineSpec(correlation="native", queries=two)
    )
    assert plugin_layers(native) == 0
    assert [e.plugin for e in native.manifest.engines] == [KERNELS_NAME, None, None, None]
