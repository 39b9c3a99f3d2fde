"""A bundle's plugins are loaded if the manifest vouches for them, and not otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles.tiny import make_bundle

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, Manifest, ProfileRange, Variant
from hsnet_trt.runtime.engines import plugins

NAME = "plugins/linux-x86_64/libhsnet_correlation.so"
LIBRARY = b"\x7fELF and so on"
ENGINE = EngineFile(
    variant=Variant("match", (96, 128), "fp32", "conv2d", "plugin"),
    file="engines/match.engine",
    target="rtx-4090",
    flavour="tensorrt_rtx",
    version="1.7.1",
    compute_capabilities=("8.9",),
    platform="linux-x86_64",
    profile={name: ProfileRange(1, 1, 4) for name in "BS"},
    build_seconds=1.0,
    plugin=NAME,
)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(plugins, "load_plugin", lambda *call: calls.append(call))
    return calls


def bundle_with(path: Path) -> Path:
    extra = {ENGINE.file: b"an engine", NAME: LIBRARY}
    return make_bundle(path, replace={"engines": (ENGINE,)}, extra=extra)


def test_checked_content_is_loaded_once(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    bundle = Bundle.open(bundle_with(tmp_path / "b"))
    native = dataclasses.replace(ENGINE, plugin=None)
    plugins.load_plugins(bundle, [native, ENGINE, ENGINE], "trt")
    assert loaded == [("trt", NAME, LIBRARY)]


def test_an_altered_plugin_is_not_loaded(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    bundle = Bundle.open(bundle_with(tmp_path / "b"))
    (tmp_path / "b" / NAME).write_bytes(LIBRARY.swapcase())
    with pytest.raises(BundleError, match="altered"):
        plugins.load_plugins(bundle, [ENGINE], "trt")
    assert not loaded


def test_a_plugin_that_the_manifest_does_not_know(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    path = bundle_with(tmp_path / "b")
    with pytest.raises(BundleError, match="does not vouch"):
        plugins.load_plugins(
            Bundle.open(path), [dataclasses.replace(ENGINE, plugin="/tmp/evil.so")], "trt"
        )
    assert not loaded
    (path / "plugins" / "another.so").write_bytes(LIBRARY)
    with pytest.raises(BundleError, match=r"another\.so lies in the bundle"):
        Bundle.open(path)


@pytest.mark.parametrize("missing", ["file", "record"])
def test_an_engine_whose_plugin_is_missing(tmp_path: Path, missing: str) -> None:
    path = bundle_with(tmp_path / "b")
    if missing == "file":
        (path / NAME).unlink()
        with pytest.raises(BundleError, match="missing from the bundle"):
            Bundle.open(path)
    else:
        (path / NAME).unlink()
        text = (path / "bundle.json").read_text()
        manifest = Manifest.from_json(text)
        files = {name: record for name, record in manifest.files.items() if name != NAME}
        (path / "bundle.json").write_text(dataclasses.replace(manifest, files=files).to_json())
        with pytest.raises(BundleError, match="does not vouch"):
            Bundle.open(path)


def test_older_manifests_are_still_read(tmp_path: Path) -> None:
    """Bundles that were written before there were plugins lack the fields for them."""
    path = bundle_with(tmp_path / "b")
    data = json.loads((path / "bundle.json").read_text())
    for engine in data["engines"]:
        del engine["plugin"], engine["version_compatible"]
    for graph in data["graphs"]:
        del graph["bare"]
    for figure in data["parity"]:
        del figure["correlation"]
    manifest = Manifest.from_json(json.dumps(data))
    assert manifest.engines[0].plugin is None
    assert manifest.engines[0].version_compatible is False
    assert all(graph.bare is None for graph in manifest.graphs)
