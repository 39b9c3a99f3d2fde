"""Code that a bundle's engines need: the correlation plugin, and the frame kernels.

The plugin is a library or compiled kernels; the frame kernels resize frames and draw masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.machine import platform_tag
from hsnet_trt.runtime.frames import frame_kernels
from hsnet_trt.trt_plugins.compile_kernels import FATBIN, compiled_kernels
from hsnet_trt.trt_plugins.loading import BUILT_LIBRARY, LIBRARY_NAME, check_plugin, is_library

KERNELS_NAME = f"plugins/{FATBIN.name}"


def library_name() -> str:
    """The path of this platform's plugin library in a bundle."""
    return f"plugins/{platform_tag()}/{LIBRARY_NAME}"


def choose_plugin(source: Bundle, given: Path | None) -> tuple[str, bytes]:
    """The plugin to build with: (its name in the bundle, its content).

    In this order: the given file; this platform's library from the bundle, or from `make plugin`
    here; the compiled kernels from the bundle, from this package, or made by nvcc now.

    Raises:
        InputError: the given file cannot be read, or is not a plugin.
        BuildError: there is none, and no nvcc to make one.
    """
    if given is not None:
        try:
            content = given.read_bytes()
        except OSError as error:
            raise InputError(
                f"the plugin {given} cannot be read", found=error.strerror, fix="give its file"
            ) from error
        check_plugin(str(given), content)
        return (library_name() if is_library(content) else KERNELS_NAME), content
    held = source.manifest.files
    if library_name() in held:
        return library_name(), source.read(library_name())
    if BUILT_LIBRARY.is_file():
        return library_name(), BUILT_LIBRARY.read_bytes()
    if KERNELS_NAME in held:
        return KERNELS_NAME, source.read(KERNELS_NAME)
    kernels = compiled_kernels()
    if kernels is None:
        raise BuildError(
            "there is no correlation plugin to build with",
            expected=f"{LIBRARY_NAME} or {FATBIN.name}, in the bundle or made here with nvcc",
            found="neither, and no nvcc",
            fix="run `make plugin` where a CUDA toolkit is and give its result with --plugin, or "
            "build with --correlation native",
        )
    return KERNELS_NAME, kernels


def choose_frame_kernels(source: Bundle, warn: Callable[[str], None]) -> bytes | None:
    """The frame kernels from the bundle, otherwise from `compile_frame_kernels`.

    Raises:
        BundleError: those in the bundle were altered.
    """
    name = frame_kernels.bundled_name()
    return source.read(name) if name in source.manifest.files else compile_frame_kernels(warn)


def compile_frame_kernels(warn: Callable[[str], None]) -> bytes | None:
    """The frame kernels compiled for all GPUs: this package's, or made by nvcc now.

    None if there are none: the CPU then resizes and draws. If nvcc fails, `warn` is called with the
    reason.
    """
    try:
        return frame_kernels.compiled_kernels()
    except BuildError as error:
        warn(f"the kernels that resize frames and draw masks were left out: {error}")
        return None


def is_frame_kernels(name: str) -> bool:
    """Whether a file of a bundle holds frame kernels, of any version."""
    return name.startswith("plugins/frames-")
