"""`build-engine` puts the frames' kernels into the bundle, compiled, and the manifest vouches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from helpers.bundles.real_contract import KERNELS, write_small_bundle

from hsnet_trt.errors import BuildError
from hsnet_trt.export.build_engine import build_engine
from hsnet_trt.export.engines.events import BuildEvent, LogLine
from hsnet_trt.runtime.bundle import Bundle, write_bundle
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.runtime.frames.frame_kernels import bundled_name, find_kernels
from hsnet_trt.trt_plugins import nvcc

OTHERS = "plugins/frames-0123456789abcdef.fatbin"


def set_compiled(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    monkeypatch.setattr(frame_kernels, "compiled_kernels", lambda: content)


def holding(path: Path, **files: bytes) -> Bundle:
    """The small bundle, with files that another version of `build-engine` added."""
    plain = write_small_bundle(path.with_name("plain"), ("fp32",))
    with write_bundle(path) as writer:
        for name in plain.manifest.files:
            writer.add(name, plain.read(name))
        for name, content in files.items():
            writer.add(name, content)
        writer.finish(plain.manifest)
    return Bundle.open(path)


@pytest.mark.usefixtures("orin")
def test_they_join_the_bundle_and_the_runtime_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_compiled(monkeypatch, KERNELS)
    built = build_engine(write_small_bundle(tmp_path / "b", ("fp32",)).path, "this")
    record = built.manifest.files[bundled_name()]
    assert record.sha256 == hashlib.sha256(KERNELS).hexdigest() and record.bytes == len(KERNELS)
    assert built.read(bundled_name()) == find_kernels(built, "8.7") == KERNELS
    assert [e.plugin for e in built.manifest.engines] == [None] * 3


@pytest.mark.usefixtures("orin")
def test_those_that_are_there_are_kept_and_not_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = holding(tmp_path / "b", **{bundled_name(): KERNELS, OTHERS: b"older"})
    monkeypatch.setattr(frame_kernels, "compiled_kernels", lambda: pytest.fail("compiled again"))
    built = build_engine(bundle.path, "this")
    assert built.read(bundled_name()) == KERNELS
    assert OTHERS not in built.manifest.files


@pytest.mark.usefixtures("orin")
@pytest.mark.parametrize("compiled", [KERNELS, None])
def test_those_of_another_version_stay_where_there_are_no_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bytes | None
) -> None:
    set_compiled(monkeypatch, compiled)
    built = build_engine(holding(tmp_path / "b", **{OTHERS: b"older"}).path, "this")
    held = [name for name in built.manifest.files if name.startswith("plugins/")]
    assert held == ([OTHERS] if compiled is None else [bundled_name()])


@pytest.mark.usefixtures("orin")
def test_an_nvcc_that_fails_does_not_keep_engines_from_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bytes:
        raise BuildError("nvcc failed", found="no C++ compiler")

    monkeypatch.setattr(frame_kernels, "compiled_kernels", fail)
    events: list[BuildEvent] = []
    bundle = write_small_bundle(tmp_path / "b", ("fp32",))
    built = build_engine(bundle.path, "this", on_event=events.append)
    assert len(built.manifest.engines) == 3 and bundled_name() not in built.manifest.files
    (line,) = [e.text for e in events if isinstance(e, LogLine) and "kernels that resize" in e.text]
    assert "no C++ compiler" in line


@pytest.mark.usefixtures("orin", "real_kernels")
@pytest.mark.skipif(nvcc.find_nvcc() is None, reason="nvcc is not installed")
def test_the_real_nvcc_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_kernels, "FATBIN", tmp_path / "frames.fatbin")
    monkeypatch.setattr(nvcc, "ARCHITECTURES", (87,))  # one, to be quick
    built = build_engine(write_small_bundle(tmp_path / "b", ("fp32",)).path, "this")
    content = built.read(bundled_name())
    assert nvcc.is_fatbin(content)
    for name in ("prepare_f32", "prepare_f16", "vote_f32", "vote_f16", "settle"):
        assert f"hsnet_{name}".encode() in content
    assert find_kernels(Bundle.open(built.path), "8.7") == content
