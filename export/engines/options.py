"""What to build and how: the options of a build, and which flavour of TensorRT supports them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hsnet_trt.errors import InputError
from hsnet_trt.export.engines.flavours import TITLES
from hsnet_trt.export.engines.targets import TENSORRT_RTX, Target
from hsnet_trt.runtime.bundle.manifest import ProfileRange

PRECISIONS = ("fp32", "fp16", "int8")
QUERIES, SUPPORTS = ProfileRange(1, 1, 4), ProfileRange(1, 1, 5)  # the default profiles
# Our names -> TensorRT's `HardwareCompatibilityLevel`.
COMPATIBILITY = {
    "ampere-plus": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}


@dataclass(frozen=True)
class BuilderOptions:
    """Options of TensorRT's builder; None and False keep its defaults, except for `tf32`.

    TensorRT's pages "The Timing Cache", "Version Compatibility" and "Hardware Compatibility"
    describe the three options of those names; TensorRT for RTX has none of them.
    """

    workspace: int | None = None  # bytes of scratch memory that a layer may use
    timing_cache: Path | None = None  # read if it exists, and written back
    version_compatible: bool = False
    hardware_compatible: str | None = None  # a key of COMPATIBILITY
    level: int | None = None  # 0 (fast build) to 5 (fast engine)
    tf32: bool = False  # allow FP32 products and convolutions to round to TF32
    verbose: bool = False  # emit the builder's whole log as `LogLine`s


@dataclass(frozen=True)
class EngineSpec:
    """Which engines of a bundle to build, apart from target and precision.

    Attributes:
        sizes: (height, width) to build for; by default all of the bundle's.
        queries: the range of B, queries matched at once.
        supports: the range of S, supports (classes x shots) matched at once.
        flavour: auto, tensorrt or tensorrt_rtx.
        lowering: conv2d or conv3d for `match`; by default the first exported one. "auto" builds
            all of them, and `fastest.build_fastest` keeps one.
        correlation: native or plugin for `match`; by default the first exported one.
        plugin: the file of the correlation plugin, a library or compiled kernels; by default it is
            searched for, see `plugin_files.choose_plugin`. It is added to the bundle.
        options: options of TensorRT's builder.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    queries: ProfileRange = QUERIES
    supports: ProfileRange = SUPPORTS
    flavour: str = "auto"
    lowering: str | None = None
    correlation: str | None = None
    plugin: Path | None = None
    options: BuilderOptions = field(default_factory=BuilderOptions)


def check_options(precision: str, options: BuilderOptions, flavour: str, target: Target) -> None:
    """Refuse options that are invalid, or that the chosen flavour lacks.

    Raises:
        InputError: an unknown precision, or an option that is out of range or not supported.
    """
    if precision not in PRECISIONS:
        raise InputError(
            "there is no such precision", expected=", ".join(PRECISIONS), found=repr(precision)
        )
    if options.level is not None and not 0 <= options.level <= 5:
        raise InputError("the builder has no such level", expected="0 to 5", found=options.level)
    if options.workspace is not None and options.workspace <= 0:
        raise InputError(
            "the workspace must be above zero",
            found=options.workspace,
            fix="give it as in --workspace 2GiB, or leave it out",
        )
    if options.hardware_compatible not in (None, *COMPATIBILITY):
        raise InputError(
            "there is no such hardware compatibility",
            expected=", ".join(COMPATIBILITY),
            found=repr(options.hardware_compatible),
        )
    tensorrt_only = {
        "--timing-cache": (options.timing_cache, "leave it out: nothing is timed at build time"),
        "--version-compatible": (
            options.version_compatible,
            "leave it out, and build again per version",
        ),
        "--hardware-compatible": (options.hardware_compatible, "use `--target portable` instead"),
    }
    for option, (given, fix) in tensorrt_only.items():
        if given and flavour == TENSORRT_RTX:
            raise InputError(f"{TITLES[flavour]} has no {option}", fix=fix)
    cache = options.timing_cache
    if cache is not None and (cache.is_dir() or not cache.absolute().parent.is_dir()):
        raise InputError(  # now, not after the build
            f"the timing cache {cache} cannot be kept",
            expected="a file's path, in a folder that is there",
            found="a folder" if cache.is_dir() else f"no folder {cache.absolute().parent}",
        )
    if options.hardware_compatible and target.jetson:
        raise InputError(
            "engines for a Jetson cannot be hardware-compatible",
            fix="leave out --hardware-compatible",
        )
