"""The kernels compile for every GPU that this nvcc knows, and keep their sums in registers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.places import ROOT

from hsnet_trt.benchmarks.limits.plugin_blocks import FORMS
from hsnet_trt.errors import BackendError, BuildError
from hsnet_trt.trt_plugins import compile_kernels, loading, nvcc, plan
from hsnet_trt.trt_plugins.compile_kernels import KernelFigures
from hsnet_trt.trt_plugins.driver import CorrelationKernels
from hsnet_trt.trt_plugins.occupancy import ARCHITECTURES, level_plan, occupancy
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

NVCC = nvcc.find_nvcc()
README = ROOT / "trt_plugins" / "README.md"
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
KERNELS = {f"{name}_{suffix}" for name in plan.KERNELS for suffix in ("f16", "f32")}


@needs_nvcc
@pytest.mark.parametrize("architecture", nvcc.architectures(NVCC) if NVCC else [])
def test_no_kernel_spills(architecture: int, tmp_path: Path) -> None:
    figures = compile_kernels.kernel_figures(architecture, tmp_path)
    assert {item.kernel for item in figures} == KERNELS
    code = (tmp_path / f"correlation_{architecture}.cubin").read_bytes()
    for kernel in KERNELS:
        assert f"hsnet_{kernel}".encode() in code
    for item in figures:
        assert item.spilled_bytes == 0, item
        assert item.shared_bytes <= 48 * 1024, item
    if architecture not in ARCHITECTURES:
        return
    # One block's waits are another's work.
    chip = ARCHITECTURES[architecture]
    for item in figures:
        _, tiles, suffix = item.kernel.split("_")
        launch = level_plan(2, 2 if suffix == "f16" else 4).correlate(tiles)
        blocks = occupancy(item, launch, chip, chip.count).blocks
        assert blocks >= 2, item
        if architecture == 90:  # what the prediction of their times takes for granted
            assert FORMS[item.kernel.removeprefix("correlate_")].resident == blocks, item


@needs_nvcc
def test_the_fat_binary_holds_code_and_ptx(tmp_path: Path) -> None:
    assert NVCC is not None
    newest = nvcc.architectures(NVCC)[-1]
    path = nvcc.compile_fatbin(compile_kernels.SOURCE, tmp_path / "kernels.fatbin", [newest])
    content = path.read_bytes()
    assert len(content) > 10_000
    assert nvcc.is_fatbin(content) and not loading.is_library(content)
    assert [item.name for item in tmp_path.iterdir()] == ["kernels.fatbin"]


def test_without_nvcc_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    with pytest.raises(BuildError, match="nvcc") as caught:
        nvcc.compile_fatbin(compile_kernels.SOURCE, tmp_path / "kernels.fatbin")
    assert "CUDA toolkit" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_compilation_leaves_the_old_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = tmp_path / "nvcc"
    failing.write_text("#!/bin/sh\necho 'no such GPU' >&2\nexit 2\n")
    failing.chmod(0o755)
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: failing)
    target = tmp_path / "kernels.fatbin"
    target.write_bytes(b"good")
    with pytest.raises(BuildError, match="nvcc failed") as caught:
        nvcc.compile_fatbin(compile_kernels.SOURCE, target, [87])
    assert "no such GPU" in str(caught.value)
    assert target.read_bytes() == b"good"
    assert {item.name for item in tmp_path.iterdir()} == {"nvcc", "kernels.fatbin"}


def test_missing_kernels_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="HyperCorrelation") as caught:
        CorrelationKernels(tmp_path / "none.fatbin")
    assert "compile_kernels" in str(caught.value)


def test_without_a_driver_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hsnet_trt.trt_plugins import driver

    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", no_library)
    driver.cuda_driver.cache_clear()
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(b"anything")
    call = Plan(CorrelationSizes(2, 2, 2, 2, 1), 1, 1, 1, 8, 2, 16, 16)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        CorrelationKernels(path).launch(call, call.problem([0] * 6), 0)
    driver.cuda_driver.cache_clear()


def test_the_table_has_a_row_for_each_kernel() -> None:
    figures = [
        KernelFigures(80, "correlate_large_f16", 30, 1024, 0),
        KernelFigures(75, "correlate_large_f16", 52, 1024, 8),
        KernelFigures(75, "correlate_small_f16", 44, 2560, 0),
        KernelFigures(80, "correlate_small_f16", 40, 2560, 0),
    ]
    rows = compile_kernels.figures_table(figures).splitlines()
    assert rows[0] == "| kernel | shared bytes | sm_75 | sm_80 |"
    assert rows[2:] == [
        "| correlate_large_f16 | 1024 | 52 (8 B spilled) | 30 |",
        "| correlate_small_f16 | 2560 | 44 | 40 |",
    ]


def test_the_page_shows_the_table_and_every_kernel() -> None:
    text = README.read_text()
    for kernel in KERNELS:
        assert re.search(rf"^\| {kernel} \|", text, re.MULTILINE)
