"""A plugin's content reaches TensorRT once, by a private copy, or not at all."""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import Any

import pytest

from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.trt_plugins import loading, nvcc, python_plugin
from hsnet_trt.trt_plugins.loading import load_plugin

LIBRARY = b"\x7fELF, and the rest of a library"
KERNELS = b"\x50\xed\x55\xba and the rest of a fat binary"


class Registry:
    """Stands for TensorRT's; keeps what it was given to load."""

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.loaded: list[tuple[Path, bytes, int]] = []

    def load_library(self, path: str) -> object | None:
        copy = Path(path)
        self.loaded.append((copy, copy.read_bytes(), copy.parent.stat().st_mode & 0o777))
        return object() if self.works else None


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(loading, "_loaded", set())
    return Registry()


def tensorrt(registry: Registry, name: str = "tensorrt") -> Any:
    module: Any = types.ModuleType(name)
    module.__version__ = "10.3.0"
    module.get_plugin_registry = lambda: registry
    return module


def test_a_library_is_loaded_once_from_a_copy_of_its_own(registry: Registry) -> None:
    trt = tensorrt(registry)
    load_plugin(trt, "plugins/lib.so", LIBRARY)
    load_plugin(trt, "plugins/lib.so", LIBRARY)
    load_plugin(trt, "plugins/correlation.fatbin", KERNELS)  # the first serves them all
    ((path, content, mode),) = registry.loaded
    assert content == LIBRARY
    assert mode == 0o700
    assert not path.parent.exists()
    load_plugin(tensorrt(registry, "tensorrt_rtx"), "plugins/lib.so", LIBRARY)
    assert len(registry.loaded) == 2


def test_a_refused_library_is_named_and_may_be_tried_again(registry: Registry) -> None:
    registry.works = False
    with pytest.raises(BackendError, match=r"cannot load the plugin plugins/lib\.so") as caught:
        load_plugin(tensorrt(registry), "plugins/lib.so", LIBRARY)
    assert "make plugin" in str(caught.value.fix)
    registry.works = True
    load_plugin(tensorrt(registry), "plugins/lib.so", LIBRARY)
    assert len(registry.loaded) == 2


def test_kernels_go_to_the_python_plugin(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []
    monkeypatch.setattr(python_plugin, "register", lambda trt, kernels: given.append(kernels))
    load_plugin(tensorrt(registry), "correlation.fatbin", KERNELS)
    assert given == [KERNELS]
    assert not registry.loaded


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh", LIBRARY[1:]])
def test_anything_else_is_not_loaded(registry: Registry, content: bytes) -> None:
    with pytest.raises(InputError, match=r"photo\.so is not a plugin"):
        load_plugin(tensorrt(registry), "photo.so", content)
    assert not registry.loaded


def test_kernels_are_compiled_only_where_they_must_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, fatbin = tmp_path / "correlation.cu", tmp_path / "correlation.fatbin"
    source.write_text("// kernels")
    made: list[Path] = []

    def compile_fatbin(source: Path, target: Path) -> Path:
        made.append(target)
        target.write_bytes(KERNELS + b"%d" % len(made))
        return target

    monkeypatch.setattr(nvcc, "compile_fatbin", compile_fatbin)
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    assert nvcc.compiled(source, fatbin) is None
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: Path("nvcc"))
    assert nvcc.compiled(source, fatbin) == KERNELS + b"1"
    assert nvcc.compiled(source, fatbin) == KERNELS + b"1"
    newer = fatbin.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(newer, newer))
    assert nvcc.compiled(source, fatbin) == KERNELS + b"2"
    os.utime(source, ns=(newer + 10**12, newer + 10**12))
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    assert nvcc.compiled(source, fatbin) == KERNELS + b"2"  # what came with the package
    assert made == [fatbin, fatbin]


def test_nvcc_is_looked_for_on_the_path_and_then_in_cuda_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A CUDA_HOME that is set is where CUDA is: no other is taken in its place."""
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        (home / "bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(homes[0] / "bin"))
    monkeypatch.setenv("CUDA_HOME", str(homes[1]))
    assert nvcc.find_nvcc() is None
    for home in reversed(homes):
        program = home / "bin" / "nvcc"
        program.write_text("#!/bin/sh\n")
        assert nvcc.find_nvcc() != program  # a file that is no program
        program.chmod(0o755)
        assert nvcc.find_nvcc() == program
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("CUDA_PATH", str(homes[1]))
    (homes[0] / "bin" / "nvcc").unlink()
    assert nvcc.find_nvcc() == homes[1] / "bin" / "nvcc"
