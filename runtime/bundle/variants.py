"""Adding graphs of another precision or form to a bundle that is there."""

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
    """Write a bundle that holds all that `source` does, and more graphs.

    A graph of the same variant is replaced, and with it go the engines that were built from it.
    Figures of the same precision, and their tolerance, are replaced by those that are given.

    Args:
        source: the bundle to add to; it stays as it is unless `out` is the same folder.
        out: where to write.
        graphs: entries, each with the content of the files that it names (`file`, and `bare` where
            it has one).
        tolerance: by precision, for the golden outputs of every size.
        parity: figures of the new graphs.
        accuracy: what they came to on episodes.
        files: further files by their name in the bundle, as `calibration/ranges.json`.
        present_from: the score from which a class counts as present; None leaves it as it is.
        command: what made them, to be kept in the manifest.

    Returns:
        the bundle that was written.

    Raises:
        BundleError: a file of `source` was altered, or an entry comes without its files. Nothing is
            written then.
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
    precisions = {variant.precision for variant in new}
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
                    for g in manifest.golden
                ),
                parity=(*(p for p in manifest.parity if p.precision not in precisions), *parity),
                accuracy=(
                    *(a for a in manifest.accuracy if a.precision not in precisions),
                    *accuracy,
                ),
                present_from=manifest.present_from if present_from is None else present_from,
                commands=(*manifest.commands, *([command] if command else [])),
            )
        )
    return Bundle.open(out)


def layers_name(size: tuple[int, int], lowering: str) -> str:
    """Where a bundle says which layers of its INT8 graphs are INT8, and why the others are not."""
    return f"calibration/{size[0]}x{size[1]}_{lowering}_layers.json"
