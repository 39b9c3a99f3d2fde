"""Where the frames' compiled kernels come from: bundle, package, nvcc or NVRTC; or nowhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import make_graph
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt.errors import BuildError, BundleError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device import kernel_cache
from hsnet_trt.runtime.engines.runner import TensorRTRunner
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.runtime.frames import frame_pipeline as gpu_frames
from hsnet_trt.runtime.frames.frame_kernels import bundled_name, find_kernels
from hsnet_trt.trt_plugins import nvcc

OURS, PACKAGES = b"the bundle's", b"the package's"


@pytest.fixture
def fatbin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's; no nvcc, and a cache folder of the test's own."""
    path = tmp_path / "frames.fatbin"
    path.write_bytes(PACKAGES)
    monkeypatch.setattr(frame_kernels, "FATBIN", path)
    monkeypatch.setattr(frame_kernels, "find_nvcc", lambda: None)
    monkeypatch.setattr(frame_kernels, "has", lambda module: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """An nvcc that only notes what it is asked for."""
    asked: list[list[int]] = []

    def compile_fatbin(source: Path, target: Path, targets: list[int]) -> Path:
        assert source == frame_kernels.SOURCE
        asked.append(targets)
        target.write_bytes(b"made now %d" % len(asked))
        return target

    monkeypatch.setattr(frame_kernels, "find_nvcc", lambda: Path("nvcc"))
    monkeypatch.setattr(frame_kernels, "compile_fatbin", compile_fatbin)
    return asked


def copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The kernels' source and headers, in a place where they may be changed."""
    files = [p for p in frame_kernels.SOURCE.parent.iterdir() if p.suffix in (".cu", ".cuh")]
    assert len(files) > 1
    (folder / "kernels").mkdir()
    monkeypatch.setattr(frame_kernels, "SOURCE", folder / "kernels" / frame_kernels.SOURCE.name)
    return [Path(shutil.copy(path, folder / "kernels")) for path in files]


def with_kernels(path: Path, name: str | None = None) -> Bundle:
    return Bundle.open(make_bundle(path, extra={name or bundled_name(): OURS}))


def test_the_bundles_come_first(fatbin: Path, tmp_path: Path, compiler: list[list[int]]) -> None:
    assert find_kernels(with_kernels(tmp_path / "b"), "8.7") == OURS
    assert not compiler


def test_altered_ones_are_not_loaded_and_none_are_taken_instead(
    fatbin: Path, tmp_path: Path
) -> None:
    bundle = with_kernels(tmp_path / "b")
    (bundle.path / bundled_name()).write_bytes(OURS.swapcase())
    with pytest.raises(BundleError, match="altered"):
        find_kernels(bundle, "8.7")


def test_ones_that_the_manifest_does_not_know_keep_the_bundle_from_opening(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "b")
    (path / "plugins").mkdir()
    (path / bundled_name()).write_bytes(OURS)
    with pytest.raises(BundleError, match="the manifest does not know it"):
        Bundle.open(path)


def test_those_of_another_source_are_left_alone(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their arguments may be laid out otherwise; the name tells, and no line's end does."""
    name = bundled_name()
    for path in copied(tmp_path, monkeypatch):
        text = path.read_bytes()
        path.write_bytes(text.replace(b"\n", b"\r\n"))
        assert bundled_name() == name
        path.write_bytes(text + b"// another version\n")
        assert bundled_name() != name, path
        path.write_bytes(text)
    path.write_bytes(text + b"// another version\n")
    assert find_kernels(with_kernels(tmp_path / "b", name), "8.7") == PACKAGES


def test_the_packages_are_taken_unless_a_file_of_the_source_is_newer(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: list[list[int]]
) -> None:
    bundle, files = Bundle.open(make_bundle(tmp_path / "b")), copied(tmp_path, monkeypatch)
    for path in (*files, fatbin):
        os.utime(path, (1000, 1000))
    assert find_kernels(bundle, "8.7") == PACKAGES and not compiler
    for path in files:
        os.utime(path, (2000, 2000))
        assert find_kernels(bundle, "8.7") != PACKAGES, path
        os.utime(path, (1000, 1000))


def test_bundles_without_them_are_still_read(fatbin: Path, tmp_path: Path) -> None:
    assert find_kernels(Bundle.open(make_bundle(tmp_path / "b")), "8.7") == PACKAGES


def test_nvcc_makes_them_once_for_this_gpu(
    fatbin: Path, tmp_path: Path, compiler: list[list[int]]
) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "b"))
    fatbin.unlink()
    assert find_kernels(bundle, "8.7") == find_kernels(bundle, "8.7") == b"made now 1"
    assert find_kernels(bundle, "12.0") == b"made now 2"
    assert compiler == [[87], [120]]
    kept = sorted((tmp_path / "cache" / "hsnet_trt").iterdir())
    assert [path.name.rsplit("-", 1)[1] for path in kept] == ["sm120.fatbin", "sm87.fatbin"]
    kept[1].chmod(0o666)  # others can write there now
    assert find_kernels(bundle, "8.7") == b"made now 3"
    assert not fatbin.exists()


@pytest.mark.parametrize("why", ["no nvcc", "nvcc fails"])
def test_where_there_are_none_it_says_what_is_missing(
    fatbin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    fatbin.unlink()
    if why == "nvcc fails":

        def fail(*arguments: Any) -> Path:
            raise BuildError("nvcc failed", found="no C++ compiler")

        monkeypatch.setattr(frame_kernels, "find_nvcc", lambda: Path("nvcc"))
        monkeypatch.setattr(frame_kernels, "compile_fatbin", fail)
    assert find_kernels(Bundle.open(make_bundle(tmp_path / "b")), "8.7") is None
    assert ("nvcc is not here" if why == "no nvcc" else "nvcc failed") in caplog.text
    assert ("no C++ compiler" in caplog.text) == (why == "nvcc fails")
    assert "by the CPU, which is slower" in caplog.text
    assert "python -m hsnet_trt.runtime.frames.frame_kernels" in caplog.text


@pytest.mark.skipif(nvcc.find_nvcc() is None, reason="nvcc is not installed")
def test_the_real_nvcc_makes_them(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatbin.unlink()
    monkeypatch.setattr(frame_kernels, "find_nvcc", nvcc.find_nvcc)
    made = find_kernels(Bundle.open(make_bundle(tmp_path / "b")), "8.9")
    assert made is not None and nvcc.is_fatbin(made)
    for name in (
        "prepare_f32",
        "prepare_f16",
        "vote_f32",
        "vote_f16",
        "settle",
        "likeness_f16",
        "guide_f16",
        "count_f16",
        "weigh_f16",
        "fit",
        "refine",
    ):
        assert f"hsnet_{name}".encode() in made
    (kept,) = (tmp_path / "cache" / "hsnet_trt").iterdir()
    assert kept.read_bytes() == made and kept.stat().st_mode & 0o077 == 0


def test_the_runtime_starts_those_of_the_bundle(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames_image: bytes
) -> None:
    packages, ours = (frames_image + name for name in (PACKAGES, OURS))  # still libraries
    fatbin.write_bytes(packages)
    started: list[bytes] = []
    plain = gpu_frames.FrameKernels.__init__

    def noted(self: Any, cuda: Any, image: bytes) -> None:
        started.append(image)
        plain(self, cuda, image)

    monkeypatch.setattr(gpu_frames.FrameKernels, "__init__", noted)
    driver, made = FakeDriver(), engines()
    install(monkeypatch, driver, fake_tensorrt(driver, VERSION))
    files = {entry.file: make_graph(graph, (96, 128))[0] for graph, entry in made.items()}
    extra = {**files, bundled_name(): ours}
    path = make_bundle(tmp_path / "new", replace={"engines": tuple(made.values())}, extra=extra)
    for bundle in (Bundle.open(path), engine_bundle(tmp_path / "old", made)):
        runner = TensorRTRunner(bundle, made)
        assert runner.frames is not None
        runner.close()
    assert started == [ours, packages]
    (path / bundled_name()).write_bytes(ours[:-1] + b"?")
    with pytest.raises(BundleError, match="altered"):
        TensorRTRunner(Bundle.open(path), made)
    assert driver.settled() and len(started) == 2


def test_nvrtc_stands_in_for_nvcc_and_its_work_is_kept(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatbin.unlink()
    bundle, asked = Bundle.open(make_bundle(tmp_path / "b")), []

    def compile_cubin(source: Path, architecture: int) -> bytes:
        assert source == frame_kernels.SOURCE
        asked.append(architecture)
        return b"by NVRTC"

    monkeypatch.setattr(frame_kernels, "has", lambda module: module == "cuda.bindings")
    monkeypatch.setattr(frame_kernels, "compile_cubin", compile_cubin)
    assert find_kernels(bundle, "9.0") == find_kernels(bundle, "9.0") == b"by NVRTC"
    assert asked == [90]
    (kept,) = (tmp_path / "cache" / "hsnet_trt").iterdir()
    kept.write_bytes(b"")  # as after a power cut
    assert find_kernels(bundle, "9.0") == b"by NVRTC"
    assert asked == [90, 90] and kept.read_bytes() == b"by NVRTC"


def test_two_threads_that_keep_a_file_at_once_do_not_mix_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One puts its file in place while the other is writing."""
    file = tmp_path / "kept" / "kernels"
    replace, first = Path.replace, b"1" * 9_000
    threads = []

    def slow(self: Path, target: Path) -> Path:
        if not threads:
            threads.append(threading.Thread(target=kernel_cache.keep_content, args=(b"", file)))
            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", lambda *_: file)  # it stops just before
                threads[0].start()
                threads[0].join(20)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    kernel_cache.keep_content(first, file)
    assert file.read_bytes() == first


def test_without_nvcc_and_nvrtc_the_log_says_what_to_install(
    fatbin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fatbin.unlink()
    bundle = Bundle.open(make_bundle(tmp_path / "b"))
    monkeypatch.setattr(frame_kernels, "has", lambda module: module == "cuda.bindings")
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)  # type: ignore[arg-type]
    assert find_kernels(bundle, "9.0") is None
    assert "NVRTC cannot be loaded" in caplog.text and "nvidia-cuda-nvrtc" in caplog.text
