"""What a bundle's engines bring along: the correlation op's library or compiled kernels, and the
kernels that resize frames and draw masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.device.machine import platform_tag
from hsnet_trt.runtime.engines import frame_kernels
from hsnet_trt.trt_plugins.compile_kernels import FATBIN, compiled_kernels
from hsnet_trt.trt_plugins.loading import BUILT_LIBRARY, LIBRARY_NAME, check_plugin, is_library

KERNELS_NAME = f"plugins/{FATBIN.name}"


def library_name() -> str:
    """Where the library for this platform lies in a bundle."""
    return f"plugins/{platform_tag()}/{LIBRARY_NAME}"


def choose_plugin(source: Bundle, given: Path | None) -> tuple[str, bytes]:
    """The plugin to build with: its name in the bundle and its content.

    The file that is given; else the library that the bundle holds for this platform, or that
    `make plugin` left here; else the kernels that the bundle holds, that came with this package, or
    that nvcc makes now.

    Raises:
        InputError: the file that is given cannot be read, or is no plugin.
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


def choose_frame_kernels(source: Bundle, say: Callable[[str], None]) -> bytes | None:
    """The kernels before and after the engines: the bundle's, else `compile_frame_kernels`.

    Raises:
        BundleError: the bundle's were altered.
    """
    name = frame_kernels.bundled_name()
    return source.read(name) if name in source.manifest.files else compile_frame_kernels(say)


def compile_frame_kernels(say: Callable[[str], None]) -> bytes | None:
    """The kernels before and after the engines, compiled for all GPUs.

    Those that came with this package, or that nvcc makes now. None where there are none, and `say`
    is told where nvcc failed: engines run without them, and the CPU resizes and draws.
    """
    try:
        return frame_kernels.compiled_kernels()
    except BuildError as error:
        say(f"the kernels that resize frames and draw masks were left out: {error}")
        return None


def is_frame_kernels(name: str) -> bool:
    """Whether a file of a bundle holds kernels for frames, of whatever version."""
    return name.startswith("plugins/frames-")
