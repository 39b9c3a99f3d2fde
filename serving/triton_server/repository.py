"""From bundles to a Triton model repository: three graphs, and the model that clients call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.errors import ExportError, InputError
from hsnet_trt.runtime.bundle import MANIFEST, Bundle
from hsnet_trt.runtime.bundle.scratch import scratch_folder
from hsnet_trt.serving.triton_server.config import LIBRARY, configs, fixed_part, to_text
from hsnet_trt.serving.triton_server.files import Served, choose_platform, same_network

_MODEL = '''"""Written by `hsnet-trt export-triton`; the code is in the package hsnet-trt."""

from hsnet_trt.serving.{module} import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

# A file in the place of `__pycache__` keeps Python from writing bytecode beside the model. A server
# in poll mode would take that for a change, and reload the model without its sets.
_NO_BYTECODE = """A file of this name keeps Python from writing bytecode here, which a server in
poll mode would take for a change.
"""


@dataclass(frozen=True)
class Repository:
    """A model repository that was written.

    Attributes:
        path: its folder.
        platform: what runs the graphs: tensorrt, onnxruntime_cuda, onnxruntime or python.
        version: the version that was written of each model, from 1.
        models: their names; clients call the last.
        capabilities: the GPUs' compute capabilities; empty unless the platform is tensorrt.
        tensorrt: the TensorRT version that the server must have; None for other platforms.
        plugin: whether the server must load the correlation plugin's library.
    """

    path: Path
    platform: str
    version: int
    models: tuple[str, ...]
    capabilities: tuple[str, ...]
    tensorrt: str | None
    plugin: bool

    @property
    def command(self) -> list[str]:
        """The command that serves it."""
        words = ["tritonserver", f"--model-repository={self.path}"]
        if self.plugin:
            library = self.path / f"{self.models[-1]}_match" / LIBRARY
            words.append(f"--backend-config=tensorrt,plugins={library}")
        return words


def export_repository(
    bundles: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    platforms: Sequence[str] = ("tensorrt", "onnxruntime"),
    *,
    size: int | tuple[int, int] | None = None,
    precision: str | None = None,
    prefix: str = "hsnet",
) -> Repository:
    """Write a model repository, or add a version to one.

    Args:
        bundles: bundles of one network; several of them provide engines for several GPUs.
        out: the repository. If it already holds these models, with the same shapes, they get
            another version, and their configurations are kept.
        platforms: what may run the graphs, in order of preference: tensorrt (Triton's backend, with
            the engines), onnxruntime_cuda (Triton's backend for ONNX Runtime, on GPUs only),
            onnxruntime (the same, on a GPU if there is one) or python (ONNX Runtime in a Python
            backend, for servers without the other two). The first that the bundles hold files for
            is used.
        size: height and width of the network's input, or one number; None for the bundle's first.
        precision: fp32, fp16 or int8; None for the first available of fp16, fp32, int8 on tensorrt
            and onnxruntime_cuda, and of fp32, fp16, int8 on the others.
        prefix: the name of the model that clients call; the graphs' are `prefix_features` etc.

    Raises:
        InputError: bundles of different networks, no such platform, or an invalid prefix.
        BundleError: a bundle is damaged or altered.
        ExportError: no platform can be served, or `out` holds other files. Nothing was written.
    """
    if not prefix.replace("_", "").replace("-", "").isalnum():
        raise InputError("a model needs a plain name", expected="as hsnet", found=prefix)
    opened = [Bundle.open(path) for path in bundles]
    chosen = opened[0].size(size)
    same_network(opened, chosen)
    served = choose_platform(opened, chosen, precision, platforms)
    texts = {name: to_text(config) for name, config in configs(prefix, chosen, served).items()}
    target = Path(out).absolute()
    version = _next_version(target, texts)
    target.parent.mkdir(parents=True, exist_ok=True)
    manifest = (opened[0].path / MANIFEST).read_bytes()
    with scratch_folder(target) as scratch:
        for name in texts:
            folder = scratch / name / str(version)
            folder.mkdir(parents=True)
            graph = name.removeprefix(f"{prefix}_") if name != prefix else None
            _write_version(folder, graph, served, manifest)
        _move(scratch, target, texts, version, served)
    return Repository(
        target,
        served.platform,
        version,
        tuple(texts),
        tuple(sorted(served.capabilities["match"])),
        served.versions[0] if served.versions else None,
        served.plugin is not None,
    )


def _write_version(folder: Path, graph: str | None, served: Served, manifest: bytes) -> None:
    if graph is None:
        (folder / MANIFEST).write_bytes(manifest)
        _write_code(folder, "triton_model")
        return
    for file, content in served.files[graph].items():
        (folder / file).write_bytes(content)
    if served.platform == "python":
        _write_code(folder, "triton_graph")


def _write_code(folder: Path, module: str) -> None:
    (folder / "model.py").write_text(_MODEL.format(module=module))
    (folder / "__pycache__").write_text(_NO_BYTECODE)


def _move(scratch: Path, target: Path, texts: dict[str, str], version: int, served: Served) -> None:
    """Move the versions into the repository; that of the model for clients comes last."""
    for name, text in texts.items():
        model = target / name
        model.mkdir(parents=True, exist_ok=True)
        if not (model / "config.pbtxt").exists():
            (model / "config.pbtxt").write_text(text)
        if name.endswith("_match") and served.plugin is not None:
            fresh = scratch / LIBRARY
            fresh.write_bytes(served.plugin)
            os.replace(fresh, model / LIBRARY)  # a running server keeps the one it has open
        shutil.move(scratch / name / str(version), model / str(version))


def _next_version(target: Path, texts: dict[str, Any]) -> int:
    """1, or one more than the newest version there.

    Raises:
        ExportError: the repository holds other files, or models with other shapes.
    """
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file", fix="choose another --out")
    versions = [0]
    for name, text in texts.items():
        config = target / name / "config.pbtxt"
        if not config.exists():
            if (target / name).exists() and any((target / name).iterdir()):
                raise ExportError(
                    f"{target / name} is in the way", fix="remove it, or choose another --out"
                )
            continue
        if fixed_part(config.read_text()) != fixed_part(text):
            raise ExportError(
                f"{target} serves a network of other shapes, platforms or files as {name!r}",
                expected="the same inputs, outputs and file names, to add a version to it",
                fix="choose another --out, or another --name to serve both side by side",
            )
        versions += [int(p.name) for p in (target / name).iterdir() if p.name.isdecimal()]
    return max(versions) + 1
