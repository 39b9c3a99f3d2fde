"""Damage as disks, copies and strangers do it: to bytes, to JSON, to paths, with hashes mended."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2,
    10**30,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\x00",
    "\ud800",
    "../outside/secret",
    "/etc/passwd",
    "graphs/../../outside/secret",
    "C:\\secret",
    "a" * 5000,
    [],
    {},
    [[]],
    [1, 2],
    ["x"],
    {"a": 1},
    [None] * 3,
]


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def damage(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut, with a part doubled, or with noise at the end."""
    kind = rng.randrange(4)
    if kind == 0:
        return cut(rng, content)
    if kind == 1:
        return content + rng.randbytes(rng.randrange(1, 200))
    if kind == 2:
        return content + cut(rng, content)
    return flip_bits(rng, content)


def change_json(rng: random.Random, text: str) -> str:
    """One to three places of a JSON text changed: value, key, type, number, or a key twice."""
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(data))
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(rng.choice(ODD))] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder.append(holder[key])
        elif kind == 3:
            other, name = rng.choice(places)
            if isinstance(other, dict) == (name in other if isinstance(other, dict) else True):
                holder[key] = json.loads(json.dumps(holder[key]))
        else:
            holder[key] = rng.choice(ODD)
    changed = json.dumps(data)
    if rng.random() < 0.05:  # the first key twice
        changed = changed.replace("{", '{"format_version": 7, ', 1)
    if rng.random() < 0.03:
        changed = "[" * 100_000 + changed
    return changed


def change_text(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return damage(rng, content)
    return change_json(rng, content.decode()).encode("utf-8", "surrogatepass")


def _places(data: Any) -> Any:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def change_bundle(rng: random.Random, folder: Path) -> None:
    """Damage a bundle in one way; where a file is changed, half the time its hash is mended."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "bundle.json")
    manifest = folder / "bundle.json"
    kind = rng.randrange(10)
    if kind < 5:
        manifest.write_bytes(change_text(rng, manifest.read_bytes()))
        return
    file = rng.choice(files)
    if kind < 8:
        file.write_bytes(damage(rng, file.read_bytes()))
        if rng.random() < 0.6:
            mend_hash(folder, file)
        return
    _replace(rng, folder, file)


def mend_hash(folder: Path, file: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    content = file.read_bytes()
    name = file.relative_to(folder).as_posix()
    manifest["files"][name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))


def _replace(rng: random.Random, folder: Path, file: Path) -> None:
    outside = folder.parent / "outside" / "secret"
    kind = rng.randrange(6)
    if kind == 0:
        (file.parent / f"more{rng.randrange(9)}").write_bytes(b"x")
        return
    if kind == 1:
        shutil.rmtree(file.parent)
        file.parent.symlink_to(rng.choice((file.parent, outside.parent)))
        return
    file.unlink()
    if kind == 2:
        file.mkdir()
    elif kind == 3:
        file.symlink_to(file)
    elif kind == 4:
        file.symlink_to(outside)


def change_npz(rng: random.Random, content: bytes) -> bytes:
    """Bytes of the archive, its JSON header, or one of its arrays: shape, type, values, absence."""
    if rng.random() < 0.4:
        return damage(rng, content)
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    kind = rng.randrange(6)
    name = rng.choice([n for n in arrays if n != "header"])
    if kind == 0:
        arrays["header"] = np.array(change_json(rng, str(arrays["header"][()])))
    elif kind == 1:
        del arrays[rng.choice(list(arrays))]
    elif kind == 2:
        arrays[name] = arrays[name].astype(rng.choice(["int64", "float64", "bool", "U8"]))
    elif kind == 3:
        arrays[name] = arrays[name][..., : rng.randrange(3)]
    elif kind == 4:
        values = arrays[name].astype(np.float32)
        values.reshape(-1)[: rng.randrange(1, 9)] = rng.choice([np.nan, np.inf, -1, 1e30])
        arrays[name] = values if arrays[name].dtype.kind == "f" else values.astype(np.int64)
    else:
        return _lying_header(rng, content)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _lying_header(rng: random.Random, content: bytes) -> bytes:
    """An array whose header claims another shape, as one of 10^15 numbers."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            if name == chosen:
                at = data.index(b"(", 10)
                shape = rng.choice((b"(999999999999999,)", b"(-1,)", b"(3, 3)", b"(0,)"))
                end = data.index(b"\n", at)
                data = data[:at] + (shape + b", }").ljust(end - at)[: end - at] + data[end:]
            new.writestr(rng.choice((name, name, "../" + name)), data)
    return out.getvalue()


Change = Callable[[random.Random, Path], None]


def on_file(change: Callable[[random.Random, bytes], bytes], name: str) -> Change:
    def apply(rng: random.Random, folder: Path) -> None:
        (folder / name).write_bytes(change(rng, (folder / name).read_bytes()))

    return apply
