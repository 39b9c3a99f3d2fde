"""A tiny bundle whose graphs obey the contract of the real ones, in a few operations.

Its features are block averages, and a query's foreground logit is its likeness to the support's
masked mean colour: it segments by colour, so results can be judged by eye and by NumPy.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
from helpers.bundles.tiny_graphs import CHANNELS, FORMS, LAYERS, SIZE, make_graph, reference

from hsnet_trt.runtime.bundle import write_bundle
from hsnet_trt.runtime.bundle.figures import GoldenFile, Tolerance
from hsnet_trt.runtime.bundle.manifest import Manifest, Model, Preprocessing


def make_golden(size: tuple[int, int]) -> bytes:
    rng = np.random.default_rng(5)
    queries = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    supports = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    masks = np.zeros((3, *size), bool)
    masks[:, 10:50, 20:60] = True
    truth = reference(queries, supports, masks)
    arrays = {"queries": queries, "supports": supports, "masks": masks, "logits": truth["logits"]}
    for name in ("f2", "f3", "f4", "s2", "s3", "s4"):
        index = np.sort(rng.choice(truth[name].size, 40, replace=False))
        arrays[name + "_index"], arrays[name] = index, truth[name].reshape(-1)[index]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def make_bundle(
    path: Path,
    *,
    sizes: tuple[tuple[int, int], ...] = (SIZE,),
    resize: str = "stretch",
    weights: str = "ab" * 32,
    contrast: float = 0.0,
    replace: dict[str, object] | None = None,
    extra: dict[str, bytes] | None = None,
) -> Path:
    """Write the tiny bundle; `replace` changes fields of its manifest, `extra` adds files.

    With a background contrast it holds no golden outputs.
    """
    with write_bundle(path) as writer:
        graphs, golden = [], []
        for size in sizes:
            for graph in FORMS:
                content, entry = make_graph(graph, size, contrast)
                writer.add(entry.file, content)
                graphs.append(entry)
            if contrast:
                continue
            file = f"golden/{size[0]}x{size[1]}.npz"
            writer.add(file, make_golden(size))
            golden.append(GoldenFile(size, file, {"fp32": Tolerance(1e-3, 1e-3, 1e-3)}))
        for name, content in (extra or {}).items():
            writer.add(name, content)
        manifest = Manifest(
            model=Model("resnet50", weights, True, (LAYERS,) * 3, (CHANNELS,) * 3, contrast),
            preprocessing=Preprocessing(resize=resize),
            sizes=sizes,
            graphs=tuple(graphs),
            golden=tuple(golden),
        )
        writer.finish(dataclasses.replace(manifest, **(replace or {})))
    return path


def in_two_forms(path: Path) -> Path:
    """Write the tiny bundle with `match` lowered in two ways; the other graphs have no form."""
    content, match = make_graph("match", SIZE)
    variant = dataclasses.replace(match.variant, lowering="conv3d")
    other = dataclasses.replace(match, variant=variant, file="graphs/match_conv3d.onnx")
    graphs = [make_graph(graph, SIZE)[1] for graph in ("features", "support")]
    graphs = [
        dataclasses.replace(g, variant=dataclasses.replace(g.variant, lowering="")) for g in graphs
    ]
    made = {"graphs": (*graphs, match, other)}
    return make_bundle(path, replace=made, extra={other.file: content})
