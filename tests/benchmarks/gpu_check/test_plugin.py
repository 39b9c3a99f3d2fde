"""What runs on a GPU, run on an emulated one: the driver calls, the cases and their judging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.kernels.emulated import compile_emulated, compiler

from hsnet_trt.benchmarks.gpu_check import plugin, plugin_cases, plugin_timing
from hsnet_trt.benchmarks.gpu_check.plugin_on_device import DeviceRunner
from hsnet_trt.errors import BackendError
from hsnet_trt.trt_plugins import driver
from hsnet_trt.trt_plugins.driver import CorrelationKernels
from hsnet_trt.trt_plugins.plan import Plan
from hsnet_trt.trt_plugins.reference import hyper_correlation
from hsnet_trt.trt_plugins.sizes import CorrelationSizes

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler to emulate with")
pytestmark = pytest.mark.xdist_group("emulated_kernels")
SMALL = Plan(CorrelationSizes(2, 2, 2, 2, 1), 1, 1, 1, 8, 2, 16, 16)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compile_emulated("driver.cpp", 800, tmp_path_factory.mktemp("driver"))


@pytest.fixture
def fatbin(tmp_path: Path) -> Path:
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(b"kernels")
    return path


@pytest.fixture
def emulated(library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    driver.cuda_driver.cache_clear()
    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: library)
    yield library
    driver.cuda_driver.cache_clear()


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_cases_pass_through_the_driver(emulated: Any, fatbin: Path, dtype: str) -> None:
    loads = emulated.emulated_loads()
    with DeviceRunner(fatbin) as device:
        for case in plugin_cases.random_cases(dtype, 4, 9):
            error, problem = plugin_cases.judge(case, device.run)
            assert problem is None, (case.name, problem)
            assert error < 1e-3
        assert plugin_cases.survives_anything(dtype, device.run_op) is None
    assert emulated.emulated_loads() == loads + 1, "loaded once for all calls"
    assert emulated.emulated_allocations() == 0, "all memory was given back"


@needs_compiler
def test_a_call_outside_a_context_is_named(emulated: Any, fatbin: Path) -> None:
    with pytest.raises(BackendError, match="no CUDA context"):
        CorrelationKernels(fatbin).launch(SMALL, SMALL.problem([0] * 6), 0)


@needs_compiler
def test_kernels_for_another_gpu_are_named(emulated: Any, fatbin: Path) -> None:
    fatbin.write_bytes(b"for another GPU")
    query = np.zeros((1, 1, 8, 4), np.float16)
    with (
        DeviceRunner(fatbin) as device,
        pytest.raises(BackendError, match="no code of hsnet::HyperCorrelation for this GPU"),
    ):
        device.run(query, query, CorrelationSizes(2, 2, 2, 2, 1))
    assert emulated.emulated_allocations() == 0


@needs_compiler
def test_a_refused_launch_is_named(emulated: Any, fatbin: Path) -> None:
    with (
        DeviceRunner(fatbin),
        pytest.raises(BackendError, match="launching hsnet_correlate_split_f16") as caught,
    ):
        CorrelationKernels(fatbin).launch(SMALL, SMALL.problem([0] * 6), 12345)
    assert "CUDA error 1" in str(caught.value)


def test_a_case_has_tiles_that_are_cut_on_132_multiprocessors() -> None:
    case = list(plugin_cases.adversarial_cases("float16"))[-1]
    shapes = [array.shape for array in plugin_cases.op_inputs(case.query, case.support)]
    plan = Plan.of(case.sizes, shapes, 2)
    assert plan.tiles(132) == "large"
    assert plan.cut_tiles(12 * 23, 132) > 0
    x, y, z = plan.launch(132).grid
    assert x * y * z == 276 + 3 * plan.cut_tiles(276, 132)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_right_result_passes_every_adversarial_case(dtype: str) -> None:
    def run(query: Any, support: Any, sizes: CorrelationSizes) -> tuple[Any, Any]:
        full, pruned = hyper_correlation(query, support, sizes)
        return full.astype(dtype), pruned.astype(dtype)

    names = set()
    for case in plugin_cases.adversarial_cases(dtype):
        names.add(case.name)
        assert plugin_cases.judge(case, run)[1] is None, case.name
    assert len(names) == 9
    assert plugin_cases.skipping_differs(dtype, run) is None


def spoil(change: str) -> plugin_cases.Run:
    def run(query: Any, support: Any, sizes: CorrelationSizes) -> tuple[Any, Any]:
        full, pruned = hyper_correlation(query, support, sizes)
        if change == "value":
            pruned[-1, -1, -1, -1] += 0.01
        elif change == "nan":
            full[0, 0, 0, 0] = np.nan
        elif change == "shape":
            full = full[:-1]
        return full, pruned

    return run


@pytest.mark.parametrize(
    ("change", "said"), [("value", "off by"), ("nan", "NaN"), ("shape", "shape"), ("none", None)]
)
def test_wrong_results_are_seen(change: str, said: str | None) -> None:
    case = next(plugin_cases.random_cases("float16", 1, 9))
    _, problem = plugin_cases.judge(case, spoil(change))
    assert (problem is None) if said is None else (problem is not None and said in problem)


def test_the_native_sequence_is_the_op() -> None:
    torch = pytest.importorskip("torch")
    for case in plugin_cases.random_cases("float32", 6, 9, seed=4):
        tensors = (torch.from_numpy(case.query), torch.from_numpy(case.support))
        longer = [plugin_timing.padded(torch, tensor) for tensor in tensors]
        assert all(tensor.shape[-1] % 16 == 0 for tensor in longer)
        expected = hyper_correlation(case.query, case.support, case.sizes)
        for inputs in (tensors, longer):
            outputs = plugin_timing.native(torch, *inputs, case.sizes)
            for found, wanted in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(found.numpy().reshape(wanted.shape), wanted, atol=1e-6)


def row(level: str, area: str, speedup: float, share: float) -> dict[str, Any]:
    return {
        "dtype": "float16",
        "level": level,
        "area": area,
        "plugin_ms": 1.0,
        "native_ms": speedup,
        "speedup": speedup,
        "flop_floor_ms": share,
        "byte_floor_ms": 0.1,
        "share_of_attainable": share,
        "forms_ms": {"correlate_large_f16": 1.0, "(not used) correlate_small_f16": 3.0},
        "largest_error": 1e-4,
    }


def test_missed_speeds_are_said() -> None:
    rows = [row("level 2", "no mask", 1.6, 0.5), row("level 4", "20%", 2.1, 0.1)]
    rows[0] |= {"native_padded_ms": 1.5, "product_ms": 0.15, "product_padded_ms": 0.05}
    rows[0]["padding"] = 1.6 / 1.5
    said = plugin.targets({"rows": rows}, "8.6")
    assert said[0].endswith(": reached")
    assert said[1].endswith(": not measured")
    assert said[2].endswith(": reached")
    assert "60% of the attainable rate: NOT reached (level 2 at no mask: 0.50)" in said[3]
    assert said[4].endswith(": not measured")
    assert "native 1.3 times: NOT reached (level 2 at no mask: 1.07)" in said[5]
    assert "40% of the attainable rate: reached" in plugin.targets({"rows": rows}, "9.0")[3]
    assert plugin.targets({"rows": []}, "9.0")[0].endswith("not measured")
    for gpu, before in (("another", ""), ("NVIDIA H100 80GB HBM3", "0.4575")):
        head, _, *lines = plugin.table({"gpu": gpu, "rows": rows}).splitlines()
        assert f"| 1.0000 | {before} | 1.6000 | 1.60 x | 1.5000 | 0.1500 | 0.0500 |" in lines[0]
        assert [line.count("|") for line in lines] == [head.count("|")] * 2


@needs_compiler
def test_every_row_is_timed_and_kept_at_once(
    emulated: Any, fatbin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the timing does but the clock, with the emulated driver and tensors on the CPU."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "zeros", Mock())
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "emulated")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(plugin_timing, "rates", lambda torch, dtype: (1e9, 1e9))
    monkeypatch.setattr(plugin_timing, "time_graph", lambda torch, work: (work(), 1e-3)[1])
    monkeypatch.setattr(plugin_timing, "LEVELS", {"level 2": (2, 16, 7, 2)})
    lengths: list[int] = []
    with DeviceRunner(fatbin):
        found = plugin_timing.time_all(
            fatbin, lambda: 9.0, lambda known: lengths.append(len(known["rows"]))
        )
        late = plugin_timing.time_all(fatbin, lambda: 0.0, lambda known: None)
    assert lengths == [*range(1, 11), 10]
    assert max(row["largest_error"] for row in found["rows"]) < 1e-3
    assert [row["area"] for row in found["rows"]][:2] == ["no mask", "20%"]
    assert len(plugin.targets(found, "9.0")) == 6
    assert plugin.table(found).count("level 2") == 10
    assert (late["rows"], len(late["left_out"])) == ([], 10)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU and an nvcc, as far as the check looks; where its figures go."""
    gpu = SimpleNamespace(name="a GPU", compute_capability="9.0")
    monkeypatch.setattr(plugin, "find_driver", lambda: SimpleNamespace(gpus=[gpu], problem=None))
    monkeypatch.setattr(plugin.nvcc, "find_nvcc", lambda: Path("nvcc"))
    monkeypatch.setattr(plugin, "sanitize", lambda tool, fatbin: f"said by {tool}")
    monkeypatch.setattr(sys, "argv", ["plugin"])
    monkeypatch.setenv("OUT", str(tmp_path))

    def compiled(capability: str, folder: Path) -> Path:
        path = folder / "correlation.fatbin"
        path.write_bytes(b"kernels")
        return path

    monkeypatch.setattr(plugin, "compile_for", compiled)
    return tmp_path


@needs_compiler
def test_a_kernel_that_ends_the_context_leaves_the_other_parts(
    emulated: Any, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise BackendError("an illegal address")

    monkeypatch.setattr(DeviceRunner, "run", fails)
    assert plugin.main() == 1
    found = json.loads((card / "plugin.json").read_text())
    assert found["correctness"]["wrong"] == ["an illegal address"]
    assert (found["memcheck"], found["racecheck"]) == ("said by memcheck", "said by racecheck")
    assert found["timing"]["rows"] == []
    assert found["timing"]["problem"]  # there is no GPU to time on


def test_rows_that_were_timed_are_kept_when_time_runs_out(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(command: list[str], **options: Any) -> Any:
        Path(command[4]).write_text(json.dumps({"rows": [row("level 2", "no mask", 2, 0.5)]}))
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(plugin.subprocess, "run", hangs)
    found = plugin.time_apart(card / "fatbin", card, 3.0)
    assert len(found["rows"]) == 1
    assert plugin.wrong_rows(found) == []
    found["rows"][0]["largest_error"] = float("nan")
    assert plugin.wrong_rows(found) == ["float16, level 2 at no mask: off by nan"]
    assert found["problem"] == "not finished in 11 s"


def test_without_a_gpu_the_check_says_so_and_is_no_failure(tmp_path: Path) -> None:
    from hsnet_trt.runtime.device.machine import find_driver

    if find_driver().gpus:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "hsnet_trt.benchmarks.gpu_check.plugin"],
        capture_output=True,
        text=True,
        env={**os.environ, "OUT": str(tmp_path), "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "skipped" in done.stdout
    assert not list(tmp_path.iterdir())
