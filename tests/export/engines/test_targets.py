"""The table of targets against what it can be reckoned from: cores, clocks and memory buses."""

from __future__ import annotations

import typing

import pytest
from helpers.places import ROOT

from hsnet_trt.cli.build_engine import build_engine
from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.engines.targets import RTX_CAPABILITIES, TARGETS, find_target
from hsnet_trt.runtime.device.machine import Driver, Gpu
from hsnet_trt.runtime.engines.compatibility import PORTABLE_COVERS

# CUDA cores, boost clock (GHz), memory bus (bits), memory rate (Gbit/s a pin): each product's
# specification page, a source apart from the white papers' tables of rates.
PARTS = {
    "t4": (2560, 1.59, 256, 10),
    "l4": (7424, 2.04, 192, 12.5),
    "a100": (6912, 1.41, 5120, 3.186),
    "h100": (16896, 1.98, 5120, 5.23),
    "rtx-2080": (2944, 1.71, 256, 14),
    "rtx-2080ti": (4352, 1.545, 352, 14),
    "rtx-3070": (5888, 1.725, 256, 14),
    "rtx-3080": (8704, 1.71, 320, 19),
    "rtx-3090": (10496, 1.695, 384, 19.5),
    "rtx-4060": (3072, 2.46, 128, 17),
    "rtx-4080": (9728, 2.505, 256, 22.4),
    "rtx-4090": (16384, 2.52, 384, 21),
    "rtx-5070": (6144, 2.512, 192, 28),
    "rtx-5080": (10752, 2.617, 256, 30),
    "rtx-5090": (21760, 2.407, 512, 28),
    "agx-orin-32gb": (1792, 0.93, 256, 6.4),
    "agx-orin-64gb": (2048, 1.3, 256, 6.4),
}


@pytest.mark.parametrize("name", PARTS)
def test_rates_follow_from_cores_and_clocks(name: str) -> None:
    cores, clock, bus, rate = PARTS[name]
    target = TARGETS[name]
    assert target.fp32 == pytest.approx(2 * cores * clock / 1000, rel=0.02)
    assert target.bandwidth == pytest.approx(bus * rate / 8, rel=0.01)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)
def test_tensor_core_rates_keep_their_ratios(target: object) -> None:
    """INT8 is twice FP16; four times where FP32 accumulation halves FP16 (GeForce cards)."""
    t = TARGETS[target.name]  # type: ignore[attr-defined]
    if t.fp16 and t.int8:
        ratio = 4 if t.name.startswith("rtx") else 2
        assert t.int8 == pytest.approx(ratio * t.fp16, rel=0.05)
    if t.tf32 and t.fp16:
        assert t.fp16 == pytest.approx(2 * t.tf32, rel=0.02)


def test_rtx_capabilities_are_what_the_package_knows() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    named = {m for m in trt.ComputeCapability.__members__ if m.startswith("SM")}
    assert named == {f"SM{c.replace('.', '')}" for c in RTX_CAPABILITIES}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RTX-4090", "rtx-4090"),
        ("rtx 4090", "rtx-4090"),
        ("Portable", "portable"),
        ("SM_89", "sm89"),
    ],
)
def test_names_are_read_kindly(name: str, found: str) -> None:
    assert find_target(name).name == found


@pytest.mark.parametrize(
    ("name", "capability", "flavours"),
    [
        ("sm75", "7.5", ("tensorrt_rtx", "tensorrt")),
        ("sm87", "8.7", ("tensorrt",)),
        ("sm90", "9.0", ("tensorrt",)),
        ("sm100", "10.0", ("tensorrt",)),
        ("sm120", "12.0", ("tensorrt_rtx", "tensorrt")),
        ("orin-nano-8gb", "8.7", ("tensorrt",)),
        ("agx-thor", "11.0", ("tensorrt",)),
        ("a100", "8.0", ("tensorrt", "tensorrt_rtx")),
        ("rtx-5090", "12.0", ("tensorrt_rtx", "tensorrt")),
        ("portable", None, ("tensorrt_rtx",)),
    ],
)
def test_who_serves_what(name: str, capability: str | None, flavours: tuple[str, ...]) -> None:
    target = find_target(name)
    assert (target.compute_capability, target.flavours) == (capability, flavours)


def test_portable_says_everywhere_what_it_covers() -> None:
    """The verb's help repeats it by hand, so that `--help` loads no TensorRT code."""
    assert PORTABLE_COVERS == "8.0, 8.6, 8.9, 12.0 and later"
    assert PORTABLE_COVERS in find_target("portable").title
    option = typing.get_type_hints(build_engine, include_extras=True)["target"].__metadata__[0]
    assert PORTABLE_COVERS in option.help
    assert PORTABLE_COVERS in (ROOT / "README.md").read_text(encoding="utf-8")


def test_this_is_the_first_gpu() -> None:
    driver = Driver("13.0", (Gpu(0, "NVIDIA L4", "8.9", 23 * 2**30, False),))
    target = find_target("this", driver)
    assert (target.name, target.title, target.memory_bytes) == ("sm89", "NVIDIA L4", 23 * 2**30)
    with pytest.raises(BuildError, match="no GPU"):
        find_target("this", Driver(None, (), "no driver"))


@pytest.mark.parametrize("name", ["", "rtx", "smart", "sm", "sm9", "sm61", "sm1234", "gtx-1080"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        find_target(name)
