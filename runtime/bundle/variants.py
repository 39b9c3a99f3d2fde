"""Adding graphs of another precision or form to an existing bundle."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle, describe, write_bundle
from hsnet_trt.runtime.bundle.figures import AccuracyFigure, ParityFigure, Tolerance
from hsnet_trt.runtime.bundle.manifest import GraphFile


def add_variants(
    source: Bundle,
    out: str | os.PathLike[str],
    graphs: Sequence[tuple[GraphFile, Mapping[str, bytes]]],
    *,
    tolerance: Mapping[str, Tolerance] | None = None,
    parity: Sequence[ParityFigure] = (),
    accuracy: Sequence[AccuracyFigure] = (),
    files: Mapping[str, bytes] | None = None,
    present_from: float | None = None,
    command: str = "",
) -> Bundle:
    """Write a copy of a bundle with more graphs.

    A graph of the same variant is replaced, and engines built from it are removed. Parity and
    accuracy figures of the same size and precision are replaced by the given ones; given tolerances
    replace old ones of the graphs' sizes.

    Args:
        source: the bundle to add to; unchanged unless `out` is the same folder.
        out: the folder to write.
        graphs: entries, each with the content of its files (`file`, and `bare` if it has one).
        tolerance: by precision, for the golden outputs of the graphs' sizes.
        parity: parity figures of the new graphs.
        accuracy: their accuracy figures.
        files: further files by their name in the bundle, such as `calibration/ranges.json`.
        present_from: the score from which a class counts as present; None keeps the old one.
        command: the command that made the graphs, to be recorded in the manifest.

    Returns:
        The bundle that was written.

    Raises:
        BundleError: a file of `source` was altered, an entry lacks its files, or `out` cannot be
            written. Nothing is written then.
    """
    manifest, files = source.manifest, dict(files or {})
    for entry, contents in graphs:
        named = {entry.file, *([entry.bare] if entry.bare else [])}
        if named != contents.keys():
            raise BundleError(
                f"the graph {describe(entry)} does not come with its files",
                expected=sorted(named),
                found=sorted(contents),
            )
        files.update(contents)
    new = {entry.variant for entry, _ in graphs}
    gone = [graph for graph in manifest.graphs if graph.variant in new]
    stale = [engine for engine in manifest.engines if engine.variant in new]
    left_out = {name for graph in gone for name in (graph.file, graph.bare) if name is not None}
    left_out |= {name for engine in stale for name in (engine.file, engine.record)}
    forms = {(variant.size, variant.precision) for variant in new}
    sizes = {variant.size for variant in new}
    with write_bundle(out) as writer:
        writer.copy(source, left_out | files.keys())
        for name, content in files.items():
            writer.add(name, content)
        writer.finish(
            dataclasses.replace(
                manifest,
                graphs=(
                    *(graph for graph in manifest.graphs if graph not in gone),
                    *(entry for entry, _ in graphs),
                ),
                engines=tuple(e for e in manifest.engines if e not in stale),
                golden=tuple(
                    dataclasses.replace(g, tolerance={**g.tolerance, **(tolerance or {})})
                    if g.size in sizes
                    else g
                    for g in manifest.golden
                ),
                parity=(
                    *(p for p in manifest.parity if (p.size, p.precision) not in forms),
                    *parity,
                ),
                accuracy=(
                    *(a for a in manifest.accuracy if (a.size, a.precision) not in forms),
                    *accuracy,
                ),
                present_from=manifest.present_from if present_from is None else present_from,
                commands=(*manifest.commands, *([command] if command else [])),
            )
        )
    return Bundle.open(out)


def layers_name(size: tuple[int, int], lowering: str) -> str:
    """The bundle's file that lists which layers of its INT8 graphs are INT8, and why others not."""
    return f"calibration/{size[0]}x{size[1]}_{lowering}_layers.json"
