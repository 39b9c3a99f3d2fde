"""Serve a repository on a CPU without a container, with the server in the wheel nvidia-pytriton.

    python -m hsnet_trt.serving.triton_server.local REPOSITORY [--grpc-port=8001 ...]

Arguments after the repository are passed to ``tritonserver``. That server has only Triton's Python
backend, so the repository must be exported with ``--platforms python``. It runs on Linux with
x86-64, in a Python environment with this package, NumPy 1 and nvidia-pytriton.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from hsnet_trt.errors import BackendError, HSNetError, InputError


def local_server() -> tuple[Path, Path, dict[str, str]]:
    """The server's binary, its folder of backends, and the environment variables it needs.

    Raises:
        BackendError: nvidia-pytriton is not installed, or does not fit this Python or NumPy.
    """
    fix = "in an environment of its own: pip install . 'numpy<2', then " + (
        "pip install --no-deps nvidia-pytriton"
    )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise BackendError("nvidia-pytriton is not installed", fix=fix)
    if int(importlib.metadata.version("numpy").partition(".")[0]) > 1:
        raise BackendError(
            "this server's Python backend was built for NumPy 1",
            found=f"NumPy {importlib.metadata.version('numpy')}",
            fix=fix,
        )
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise BackendError(
            f"nvidia-pytriton has no Python backend for Python {version}",
            expected=", ".join(sorted(p.name for p in stub.parents[1].glob("3.*"))),
        )
    # The wheel stores the backend apart from its stub programs, one for each Python version.
    backends = Path(sys.prefix) / "share" / "hsnet-trt" / "triton-backends"
    if not (backends / "python" / stub.name).is_file():
        shutil.copytree(server / "backends" / "python", backends / "python", dirs_exist_ok=True)
        shutil.copy(stub, backends / "python")
    libraries = [sysconfig.get_config_var("LIBDIR"), package.parent / "nvidia_pytriton.libs"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONHOME"}
    environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    # The stub program finds its Python through PATH.
    environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', '')}"
    return server / "bin" / "tritonserver", backends, environment


def main(arguments: list[str]) -> None:
    """Replace this process with the server, or exit with an error message."""
    try:
        if not arguments or not Path(arguments[0]).is_dir():
            raise InputError(
                "there is no model repository to serve",
                expected="the folder that `hsnet-trt export-triton --platforms python` wrote",
                found=arguments[0] if arguments else "no argument",
            )
        binary, backends, environment = local_server()
    except HSNetError as error:
        sys.exit(f"error: {error}")
    command = [str(binary), f"--model-repository={arguments[0]}", f"--backend-directory={backends}"]
    os.execve(binary, [*command, *arguments[1:]], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
