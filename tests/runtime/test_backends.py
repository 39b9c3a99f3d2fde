"""Which backend is taken, and why the others are not."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from pathlib import Path

import pytest
from helpers.bundles.tiny import make_bundle

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, BundleError, InputError
from hsnet_trt.runtime import backends
from hsnet_trt.runtime.bundle.manifest import EngineFile, ProfileRange, Variant
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.engines.compatibility import Host, best_fit, misfit, remedy

HOST = Host("tensorrt_rtx", "1.7.1.116", "8.9", "linux-x86_64")
PLUGIN = Variant("match", (96, 128), "fp32", "conv2d", "plugin")
PROFILES = {"features": "N", "support": "S", "match": "BS"}


def engine(graph: str = "match", precision: str = "fp32", **changes: object) -> EngineFile:
    made = EngineFile(
        variant=Variant(graph, (96, 128), precision, "conv2d", "native"),
        file=f"engines/{graph}_{precision}.engine",
        target="rtx-4090",
        flavour="tensorrt_rtx",
        version="1.7.1.116",
        compute_capabilities=("8.9",),
        platform="linux-x86_64",
        profile={name: ProfileRange(1, 1, 4) for name in PROFILES[graph]},
        build_seconds=1.0,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"compute_capabilities": ("8.6", "8.9")}, None),
        ({"compute_capabilities": ("portable",)}, None),
        ({"version": "1.7.1"}, None),  # some packages leave out the build number
        ({"version": "1.7.0.116"}, "is for tensorrt_rtx 1.7.0.116, and 1.7.1.116 is installed"),
        ({"version": "10.3.0"}, "10.3.0"),
        ({"compute_capabilities": ("8.6",)}, "capability 8.6, and this GPU has 8.9"),
        ({"compute_capabilities": ()}, "capability"),
        ({"platform": "linux-aarch64"}, "linux-aarch64, and this is linux-x86_64"),
        ({"flavour": "tensorrt"}, "for tensorrt, not tensorrt_rtx"),
        ({"variant": PLUGIN}, "needs the correlation plugin, and the bundle names none"),
        ({"variant": PLUGIN, "plugin": "plugins/correlation.fatbin"}, None),
        ({"version": "1.6.9", "version_compatible": True}, None),
        ({"version": "1.7.1", "version_compatible": True}, None),
        ({"version": "1.8.0", "version_compatible": True}, "is for tensorrt_rtx 1.8.0"),
        ({"version": "0.9.9", "version_compatible": True}, "is for tensorrt_rtx 0.9.9"),
        ({"version": "1.6.9"}, "is for tensorrt_rtx 1.6.9"),
    ],
)
def test_misfit(changes: dict[str, object], says: str | None) -> None:
    reason = misfit(engine(**changes), HOST)  # type: ignore[arg-type]
    assert reason is None if says is None else says in str(reason)


@pytest.mark.parametrize(
    ("capability", "says"),
    [
        ("7.5", "for compute capability 8.0, 8.6, 8.9, 12.0 and later, and this GPU has 7.5"),
        ("8.0", None),
        ("8.6", None),
        ("8.7", "and this GPU has 8.7"),
        ("8.9", None),
        ("9.0", "for compute capability 8.0, 8.6, 8.9, 12.0 and later, and this GPU has 9.0"),
        ("10.0", "and this GPU has 10.0"),
        ("10.3", "and this GPU has 10.3"),
        ("11.0", "and this GPU has 11.0"),
        ("12.0", None),
        ("12.1", None),
        ("13.0", None),
    ],
)
def test_portable_engines_run_where_tensorrt_for_rtx_said_so(
    capability: str, says: str | None
) -> None:
    portable = engine(compute_capabilities=("portable",))
    reason = misfit(portable, dataclasses.replace(HOST, compute_capability=capability))
    assert reason is None if says is None else says in str(reason)


@pytest.mark.parametrize(
    ("capability", "flavour", "served"),
    [
        ("9.0", "tensorrt_rtx", False),
        ("8.7", "tensorrt_rtx", False),
        ("10.3", "tensorrt_rtx", False),
        ("7.5", "tensorrt_rtx", True),
        ("12.0", "tensorrt_rtx", True),
        ("9.0", "tensorrt", True),
    ],
)
def test_the_remedy_is_tensorrt_where_the_one_for_rtx_runs_no_engine_at_all(
    capability: str, flavour: str, served: bool
) -> None:
    text = remedy(flavour, capability)
    assert "--target this" in text
    assert ("pip install tensorrt" in text and capability in text) is not served


def test_an_engine_for_this_very_gpu_is_preferred() -> None:
    portable = engine(compute_capabilities=("portable",))
    exact, other = engine(), engine(compute_capabilities=("12.0",))
    assert best_fit([portable, other, exact], HOST) == (exact, [misfit(other, HOST)])
    assert best_fit([portable], HOST)[0] is portable
    assert best_fit([], HOST) == (None, [])


def engines_bundle(path: Path, engines: list[EngineFile]) -> Path:
    return make_bundle(
        path,
        replace={"engines": tuple(engines)},
        extra={e.file: b"not really an engine" for e in engines},
    )


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, gpus: tuple[Gpu, ...] = (), installed: bool = True
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: (
            (object() if installed else None)
            if name in ("tensorrt", "tensorrt_rtx", "pycuda")
            else find(name, *rest)
        ),
    )
    problem = None if gpus else "the driver sees no GPU"
    monkeypatch.setattr(backends, "find_driver", lambda: Driver("13.0", gpus, problem))


GPU = Gpu(0, "Card", "8.9", 10**10, False)
HOPPER = dataclasses.replace(GPU, compute_capability="9.0")


def test_onnxruntime_is_the_default(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch)
    with caplog.at_level(logging.INFO, "hsnet_trt"), FewShotSegmenter.load(bundle) as segmenter:
        assert segmenter.backend == "onnxruntime"
        assert segmenter.precision == "fp32"
        assert "no engine for tensorrt_rtx at 96x128" in segmenter.backend_reason
        assert "not onnxruntime_cuda: there is no GPU" in segmenter.backend_reason
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "backend onnxruntime" in caplog.text


@pytest.mark.parametrize(
    ("gpus", "installed", "says"),
    [
        ((), True, "the driver sees no GPU"),
        ((GPU,), False, "tensorrt_rtx is not installed"),
        ((dataclasses.replace(GPU, compute_capability="7.5"),), True, "this GPU has 7.5"),
        ((HOPPER,), True, "this GPU has 9.0"),
    ],
)
def test_falling_back_to_the_cpu_is_said_aloud(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: tuple[Gpu, ...],
    installed: bool,
    says: str,
) -> None:
    pytest.importorskip("tensorrt_rtx")
    made = [engine(g, version=_version(), compute_capabilities=("portable",)) for g in PROFILES]
    path = engines_bundle(tmp_path / "b", made)
    pretend(monkeypatch, gpus=gpus, installed=installed)
    with FewShotSegmenter.load(path) as segmenter:
        assert segmenter.backend == "onnxruntime"
    assert says in caplog.text
    assert caplog.records[-1].levelname == "WARNING"
    with pytest.raises(BackendError) as caught:
        FewShotSegmenter.load(path, backend="tensorrt_rtx")
    assert says in str(caught.value)
    hopeless = "TensorRT for RTX does not serve compute capability 9.0: install TensorRT"
    assert (hopeless in str(caught.value)) == (gpus == (HOPPER,))


def _version() -> str:
    import tensorrt_rtx

    return str(tensorrt_rtx.__version__)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "1.0.0"}, "1.0.0"),
        ({"compute_capabilities": ("12.0",)}, "12.0"),
        ({"platform": "linux-riscv64"}, "riscv64"),
    ],
)
def test_engines_for_something_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], says: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    changes = {"version": _version(), **changes}
    path = engines_bundle(tmp_path / "b", [engine(g, **changes) for g in PROFILES])  # type: ignore[arg-type]
    pretend(monkeypatch, gpus=(GPU,))
    with pytest.raises(BackendError, match="none of the bundle's engines") as caught:
        FewShotSegmenter.load(path, backend="tensorrt_rtx")
    assert says in str(caught.value.found)
    assert "build-engine" in str(caught.value.fix)


def test_an_incomplete_precision_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 is preferred, but lacks `match`; `support` alone may come from another precision."""
    pytest.importorskip("tensorrt_rtx")
    version = _version()
    engines = [
        engine("features", "fp16", version=version),
        engine("features", version=version),
        engine("match", version=version),
        engine("support", "fp16", version=version),
    ]
    path = engines_bundle(tmp_path / "b", engines)
    pretend(monkeypatch, gpus=(GPU,))
    taken: list[dict[str, EngineFile]] = []

    def refuse(_: object, chosen: dict[str, EngineFile]) -> None:
        taken.append(chosen)
        raise BackendError("no real GPU")

    monkeypatch.setattr("hsnet_trt.runtime.engines.runner.TensorRTRunner", refuse)
    with FewShotSegmenter.load(path) as segmenter:
        assert "no real GPU" in segmenter.backend_reason
    assert {g: e.variant.precision for g, e in taken[0].items()} == {
        "features": "fp32",
        "support": "fp16",
        "match": "fp32",
    }


def test_names_that_do_not_exist(bundle: Path) -> None:
    with pytest.raises(InputError, match="backend"):
        FewShotSegmenter.load(bundle, backend="cuda")
    with pytest.raises(InputError, match="precision"):
        FewShotSegmenter.load(bundle, precision="bf16")
    with pytest.raises(BundleError, match="graphs"):
        FewShotSegmenter.load(bundle, precision="int8")
    with pytest.raises(BundleError, match="does not hold the graphs") as caught:
        FewShotSegmenter.load(bundle, precision="int8", lowering="packed")
    assert str(caught.value.fix).endswith("calibrate BUNDLE --lowering packed")
    for backend in ("tensorrt", "tensorrt_rtx"):
        with pytest.raises(BackendError, match=f"no engine for {backend}"):
            FewShotSegmenter.load(bundle, backend=backend)
