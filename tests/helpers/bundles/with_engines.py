"""Bundles with engines, which the fake TensorRT runs by the graphs that they were made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import FORMS, SIZE, make_graph

from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.bundle.manifest import EngineFile, ProfileRange
from hsnet_trt.runtime.device.machine import platform_tag

VERSION = "10.3.0"
DIMENSIONS = {"features": "N", "support": "S", "match": "BS"}


def engines(most: int = 4, **changes: object) -> dict[str, EngineFile]:
    made = {}
    for graph in FORMS:
        entry = EngineFile(
            variant=make_graph(graph, SIZE)[1].variant,
            file=f"engines/{graph}.engine",
            target="this",
            flavour="tensorrt",
            version=VERSION,
            compute_capabilities=("8.9",),
            platform=platform_tag(),
            profile={name: ProfileRange(1, 1, most) for name in DIMENSIONS[graph]},
            build_seconds=1.0,
        )
        made[graph] = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]
    return made


def engine_bundle(
    path: Path, made: dict[str, EngineFile], contrast: float = 0.0, **contents: bytes
) -> Bundle:
    files = {e.file: contents.get(g, make_graph(g, SIZE, contrast)[0]) for g, e in made.items()}
    replaced = {"engines": tuple(made.values())}
    make_bundle(path, contrast=contrast, replace=replaced, extra=files)
    return Bundle.open(path)
