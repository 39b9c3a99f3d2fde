"""A bundle's inspection as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hsnet_trt.export.doctor.inspection import Report
from hsnet_trt.runtime.engines.compatibility import PORTABLE, PORTABLE_COVERS

_SHORT = {"float32": "f32", "float16": "f16"}


def inspection_tables(report: Report) -> Group:
    """Render what `inspect_bundle` returned."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    manifest = report["manifest"]
    yield _heading(report["path"], manifest)
    yield _graphs(report, manifest)
    yield from _networks(report, manifest)
    if manifest["engines"]:
        yield _engines(report, manifest)
        yield from _engine_notes(report)
    else:
        yield Text("no engines yet: hsnet-trt build-engine adds them", style="dim")
    if manifest["parity"]:
        yield _parity(manifest)
    yield _files(manifest)


def _heading(path: str, manifest: Report) -> Table:
    model, preprocessing = manifest["model"], manifest["preprocessing"]
    weights = "trained" if model["trained"] else "random"
    table = Table.grid(padding=(0, 2))
    rows = {
        "bundle": f"{path} (format {manifest['format_version']})",
        "model": f"HSNet {model['backbone']}, {weights} weights {model['weights_sha256'][:16]}",
        "layers": f"{model['layers']} of {model['channels']} channels (levels 2, 3, 4)",
        "sizes": ", ".join(_size(size) for size in manifest["sizes"]),
        "input": "RGB, mean {mean}, std {std}, resized by {resize}".format(**preprocessing),
        "made by": manifest["created_by"] or "-",
        "commands": "\n".join(manifest["commands"]) or "-",
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}", escape(value))
    return table


def _graphs(report: Report, manifest: Report) -> Table:
    table = _table("Graphs", "graph", "opset", "inputs", "outputs", "MiB")
    for graph, found in zip(manifest["graphs"], report["graphs"], strict=True):
        v = graph["variant"]
        table.add_row(
            _stacked(v),
            str(graph["opset"]),
            _tensors(graph["inputs"]),
            _tensors(graph["outputs"]),
            _mib(found["bytes"]),
        )
    return table


def _networks(report: Report, manifest: Report) -> Iterator[RenderableType]:
    for graph, found in zip(manifest["graphs"], report["graphs"], strict=True):
        v = graph["variant"]
        name = f"{v['graph']} {_size(v['size'])} {v['precision']} {_form(v)}".strip()
        if found.get("int8"):
            left = ", ".join(f"{layer} ({why})" for layer, why in found["float"].items())
            text = Text(f"{name}: {len(found['int8'])} layers are INT8: ", style="bold")
            text.append(", ".join(found["int8"]), style="not bold")
            text.append(f"; float: {left}" if left else "", style="not bold")
            yield text
        if "network" not in found:
            yield Text(f"layers of {name} not shown: {found['network_missing']}", style="dim")
            continue
        network = found["network"]
        total = sum(layer["count"] for layer in network["layers"])
        text = Text(f"{name}: {total} layers, parsed by {network['by']}: ", style="bold")
        text.append(_layer_counts(network["layers"]), style="not bold")
        yield text


def _engines(report: Report, manifest: Report) -> Table:
    table = _table("Engines", "graph", "for", "built by", "profile", "MiB", "activations", "s")
    for engine, found in zip(manifest["engines"], report["engines"], strict=True):
        v = engine["variant"]
        reported = engine["activation_bytes"]
        table.add_row(
            _stacked(v),
            "\n".join([engine["target"], _capabilities(engine["compute_capabilities"])]),
            "\n".join([engine["flavour"], engine["version"], engine["platform"]]),
            "\n".join(
                f"{name} {r['least']}:{r['expected']}:{r['most']}"
                for name, r in engine["profile"].items()
            ),
            _mib(found["bytes"]),
            "not reported" if reported is None else f"{_mib(reported)} MiB",
            f"{engine['build_seconds']:.1f}",
        )
    return table


def _capabilities(names: Sequence[str]) -> str:
    return ", ".join(PORTABLE_COVERS if name == PORTABLE else name for name in names)


def _engine_notes(report: Report) -> Iterator[RenderableType]:
    reasons = {
        found["examined_missing"] for found in report["engines"] if "examined_missing" in found
    }
    for reason in sorted(reasons):
        yield Text(f"the engines' own layers are not shown: {reason}", style="dim")
    for found in report["engines"]:
        if "examined" in found:
            examined = found["examined"]
            memory = f"{_mib(examined['device_memory'])} MiB of activations"
            yield Text(f"{found['file']}: {examined['layer_count']} layers, {memory}", style="bold")
            for layer in (examined["information"] or {}).get("Layers", []):
                name = (
                    layer
                    if isinstance(layer, str)
                    else f"{layer.get('LayerType')} {layer.get('Name')}"
                )
                yield Text(f"  {name}")


def _parity(manifest: Report) -> Table:
    table = _table(
        "Parity at export",
        "size",
        "precision",
        "form",
        "PyTorch in",
        "B x S",
        "largest",
        "logits' std",
    )
    for p in manifest["parity"]:
        table.add_row(
            _size(p["size"]),
            p["precision"],
            f"{p['lowering']} {p['correlation']}",
            p["against"].removeprefix("torch-"),
            f"{p['queries']} x {p['supports']}",
            f"{p['max_difference']:.2e}",
            f"{p['logits_std']:.2e}",
        )
    return table


def _files(manifest: Report) -> Table:
    table = _table("Files", "file", "bytes", "SHA-256")
    for name, record in sorted(manifest["files"].items()):
        table.add_row(escape(name), f"{record['bytes']:,}", record["sha256"][:16])
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column in ("MiB", "s", "bytes", "opset")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _layer_counts(layers: list[Report]) -> str:
    ordered = sorted(layers, key=lambda layer: -layer["count"])
    return ", ".join(f"{layer['count']} {layer['type']} {layer['precision']}" for layer in ordered)


def _tensors(specs: list[Report]) -> str:
    return "\n".join(
        f"{t['name']} {_SHORT.get(t['dtype'], t['dtype'])} {'x'.join(map(str, t['shape']))}"
        for t in specs
    )


def _stacked(variant: Report) -> str:
    size = f"{_size(variant['size'])} {variant['precision']}"
    return "\n".join(filter(None, [variant["graph"], size, _form(variant)]))


def _form(variant: Report) -> str:
    return f"{variant['lowering']} {variant['correlation']}".strip()


def _size(size: Any) -> str:
    return f"{size[0]}x{size[1]}"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f}"
