"""Writing a bundle: in a scratch folder that is moved into place when complete."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle.bundle import FOLDERS, MANIFEST, Bundle, resolved
from hsnet_trt.runtime.bundle.manifest import FileRecord, Manifest
from hsnet_trt.runtime.bundle.scratch import replace_folder, scratch_folder

_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # left by file browsers


class BundleWriter:
    """A bundle that is being written; see `write_bundle`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, FileRecord] = {}

    def add(self, name: str, content: bytes | Path) -> str:
        """Add a file to the bundle, from bytes or from another file; returns `name`."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
        return self.seal(name)

    def copy(self, source: Bundle, without: Container[str]) -> None:
        """Add all files of another bundle except those named, checking the hash of each.

        Raises:
            BundleError: a file was altered.
        """
        for name in source.manifest.files:
            if name not in without:
                self.add(name, source.read(name))

    def seal(self, name: str) -> str:
        """Record the hash of a file that was written directly into the folder; returns `name`."""
        digest = hashlib.sha256()
        with (self.path / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        self.files[name] = FileRecord(digest.hexdigest(), (self.path / name).stat().st_size)
        return name

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, with the hashes of all added files."""
        complete = dataclasses.replace(manifest, files=self.files)
        (self.path / MANIFEST).write_text(complete.to_json(), encoding="utf-8")


@contextlib.contextmanager
def write_bundle(path: str | os.PathLike[str]) -> Iterator[BundleWriter]:
    """Write a bundle in a scratch folder, and move it to `path` at the end of the block.

    If the block fails, or never calls `finish`, nothing is left and an older bundle stays. If the
    process is killed, the older bundle stays, and the scratch folder is removed when the same
    bundle is written again.

    Raises:
        BundleError: `path` is neither a bundle nor an empty folder, or holds files that are not
            part of its bundle; or it cannot be written, as on a full disk.
    """
    target = resolved(Path(path))
    _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target) as scratch:
            writer = BundleWriter(scratch)
            yield writer
            Bundle.open(scratch)
            replace_folder(scratch, target)
    except OSError as error:
        raise BundleError(
            f"the bundle cannot be written to {target}",
            found=error.strerror or error,
            fix="choose another --out, free space, or see who may write there",
        ) from error


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse now what `write_bundle` would refuse later, after the work.

    Raises:
        BundleError: a bundle cannot be written there.
    """
    target = resolved(Path(path))
    _check_replaceable(target)
    place = next(folder for folder in target.parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise BundleError(
            f"the bundle cannot be written to {target}",
            found=f"no permission to write in {place}" if place.is_dir() else f"{place} is a file",
            fix="choose another --out, or see who may write there",
        )


def _check_replaceable(target: Path) -> None:
    """Refuse to replace a folder that is not a bundle, or holds files that would be lost."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise BundleError(
            f"{target} is in the way",
            expected="no such folder, an empty one, or a bundle that is to be replaced",
            fix="choose another --out",
        )
    known, in_folders = set[str](), tuple[str, ...]()
    try:
        known = set(Manifest.from_json((target / MANIFEST).read_text("utf-8", "replace")).files)
    except (BundleError, OSError):
        in_folders = FOLDERS  # damaged, or of another version: all in these may be replaced
    names = (p.relative_to(target).as_posix() for p in target.rglob("*") if not p.is_dir())
    known.add(MANIFEST)
    strange = sorted(
        name
        for name, parts in ((n, PurePosixPath(n).parts) for n in names)
        if name not in known and parts[0] not in in_folders and parts[-1] not in _LITTER
    )
    if strange:
        raise BundleError(
            f"{target} holds files that are no part of the bundle, and would be lost with it",
            expected="a bundle that is to be replaced, and nothing else",
            found=", ".join(strange[:4]) + (" ..." if len(strange) > 4 else ""),
            fix="move them elsewhere, or choose another --out",
        )
