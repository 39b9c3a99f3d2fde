"""A machine that is made up, as processes see it: its modules, its driver, its programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.places import ROOT

from hsnet_trt.export.doctor.extras import EXTRAS

STUB = Path(__file__).with_name("libcuda_stub.c")
VERB = "from hsnet_trt.cli.doctor import doctor; doctor(json_output={})"

# Libraries that would take seconds to import, as one-line modules.
QUICK = {
    "torch": "class version: cuda = None\n__version__ = '2.9.0'\n",
    "onnx": "__version__ = '1.19.0'\n",
    "onnxscript": "__version__ = '0.5.0'\n",
    "polygraphy": "__version__ = '0.49.0'\n",
    "onnxruntime": "__version__ = '1.20.0'\n"
    "def get_available_providers(): return ['CPUExecutionProvider']\n",
    "tensorrt_rtx": "__version__ = '1.7.1'\n",
}
ABSENT = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')\n"
EXTRA_ROOTS = {name.split(".")[0] for extra in EXTRAS for name in extra.packages}


class Machine:
    """A made-up machine: which modules, which driver, which programs."""

    def __init__(self, folder: Path) -> None:
        self.modules = folder / "modules"
        self.programs = folder / "bin"
        self.driver = folder / "driver"
        for path in (self.modules, self.programs, self.driver):
            path.mkdir()
        self.give(**QUICK)
        self.take("tensorrt", "pycuda", "cuda", *EXTRA_ROOTS)

    def give(self, **sources: str) -> None:
        for name, source in sources.items():
            (self.modules / f"{name}.py").write_text(source)

    def give_package(
        self, name: str, module: str, package: str = "", content: str = "__version__ = '1'\n"
    ) -> None:
        """`package` is the source of its `__init__`, `content` that of the module."""
        (self.modules / f"{name.partition('.')[0]}.py").unlink(missing_ok=True)
        folder = self.modules / name.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(package)
        (folder / f"{module}.py").write_text(content)

    def take(self, *names: str) -> None:
        self.give(**{name: ABSENT.format(name) for name in names})

    def give_driver(self, init: int = 0, gpus: int = 0) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("no C compiler to build a stub of the driver with")
        out = str(self.driver / "libcuda.so.1")
        flags = [f"-DINIT={init}", f"-DGPUS={gpus}", "-shared", "-fPIC", "-o", out]
        subprocess.run([compiler, *flags, str(STUB)], check=True)

    def doctor(self, as_json: bool = True) -> str:
        environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if k not in ("CUDA_HOME", "CXX", "TENSORRT_ROOT")
            },
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.modules)]),
            "LD_LIBRARY_PATH": str(self.driver),
            "PATH": str(self.programs),
            "CUDA_HOME": str(self.programs),
            "COLUMNS": "200",
        }
        return subprocess.run(
            [sys.executable, "-c", VERB.format(as_json)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def diagnosis(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        told = json.loads(self.doctor())
        libraries = {library["name"]: library for library in told["libraries"]}
        return told, libraries, {a["name"].split(" (")[0]: a for a in told["abilities"]}
