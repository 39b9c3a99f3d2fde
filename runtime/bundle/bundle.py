"""A bundle on disk: a folder whose manifest holds the hash of every file that is read from it.

Hashes in the same folder show that no file was damaged or swapped by accident; they do not prove
who made the bundle. To prove its origin, pass the manifest's SHA-256 from a trusted place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path, PurePosixPath

from hsnet_trt.errors import BundleError, InputError
from hsnet_trt.runtime.bundle.manifest import FileRecord, GraphFile, Manifest

MANIFEST = "bundle.json"
# All files in these folders must be in the manifest. Files elsewhere are never read.
FOLDERS = ("graphs", "engines", "golden", "plugins", "calibration")
_MANIFEST_LIMIT = 16 << 20


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its files are read through `read`, which checks their hash.

    Attributes:
        path: its folder, absolute: it stays the same if the process changes its working directory.
        manifest: the content of `bundle.json` when it was opened.
        sha256: the SHA-256 of that `bundle.json`, in hex.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, sha256: str | None = None) -> Bundle:
        """Open a bundle and check that all of its files are there, and no others.

        File sizes are checked; hashes are checked by `read` and `check`.

        Args:
            path: the bundle's folder.
            sha256: the SHA-256 that `bundle.json` must have (hex), to prove its origin.

        Raises:
            BundleError: no bundle, an invalid manifest, another format version, a missing,
                truncated or extra file, or a manifest whose hash is not `sha256`.
        """
        folder = Path(path).absolute()
        try:
            with (folder / MANIFEST).open("rb") as stream:
                text = stream.read(_MANIFEST_LIMIT + 1)
        except OSError as error:
            raise BundleError(
                f"there is no bundle at {Path(path)}",
                expected=f"a folder with a {MANIFEST}",
                found=f"a folder without {MANIFEST}" if folder.is_dir() else error.strerror,
                fix=f"give its folder: {folder.parent}"
                if folder.name == MANIFEST
                else "make one: hsnet-trt export --checkpoint MODEL.pt --out BUNDLE "
                "(--checkpoint shipped takes the model that comes with the package)",
            ) from error
        if len(text) > _MANIFEST_LIMIT:
            raise BundleError(
                f"{MANIFEST} is too large", expected=f"{_MANIFEST_LIMIT} bytes at most"
            )
        found = hashlib.sha256(text).hexdigest()
        if sha256 is not None and found != sha256.lower():
            raise BundleError(
                "this is not the bundle that was asked for",
                expected=f"{MANIFEST} with SHA-256 {sha256.lower()}",
                found=found,
                fix="copy the bundle again from where it was built",
            )
        bundle = cls(folder, Manifest.from_json(text.decode("utf-8", "replace")), found)
        bundle._check_presence()
        return bundle

    def read(self, name: str) -> bytes:
        """The content of one file, after checking its hash.

        Raises:
            BundleError: the file is not in the manifest, was altered, or cannot be read.
        """
        record = self._record(name)
        try:
            content = self._inside(name).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{name} cannot be read",
                found=error.strerror,
                fix="check who may read the bundle's files",
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != record.sha256:
            raise BundleError(
                f"{name} was altered after the bundle was made",
                expected=f"SHA-256 {record.sha256}",
                found=found,
                fix="copy the bundle again, or build the engine again; do not run this one",
            )
        return content

    def graph(
        self,
        graph: str,
        size: tuple[int, int],
        precision: str = "fp32",
        *,
        lowering: str | None = None,
        correlation: str | None = None,
    ) -> GraphFile:
        """The exported graph of that form; None for `lowering` or `correlation` fits any.

        Returns:
            The first such graph in the order of export.

        Raises:
            BundleError: no such graph was exported.
        """
        for entry in self.manifest.graphs:
            v = entry.variant
            if (v.graph, v.size, v.precision) == (graph, size, precision) and (
                lowering in (None, v.lowering) and correlation in (None, v.correlation)
            ):
                return entry
        wanted = [graph, f"{size[0]}x{size[1]}", precision, lowering or "", correlation or ""]
        raise BundleError(
            "the bundle does not hold the graph that is wanted",
            expected=" ".join(filter(None, wanted)),
            found="; ".join(describe(g) for g in self.manifest.graphs) or "no graphs",
            fix="export it: `hsnet-trt export` writes sizes, precisions and forms as asked",
        )

    def size(self, wanted: int | tuple[int, int] | None) -> tuple[int, int]:
        """The requested size as (height, width); for None, the bundle's first.

        Args:
            wanted: (height, width), the side of a square, or None.

        Raises:
            BundleError: the bundle was not exported at that size.
            InputError: not a number or a pair of numbers.
        """
        sizes = self.manifest.sizes
        if not sizes:
            raise BundleError("the bundle holds no network", fix="export it again")
        if wanted is None:
            return sizes[0]
        size = (wanted, wanted) if isinstance(wanted, int) else wanted
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise InputError(
                "the size is not valid",
                expected="one number, as 400, or a pair (height, width), as (480, 640)",
                found=repr(wanted),
            )
        size = (size[0], size[1])
        if size not in sizes:
            raise BundleError(
                "the bundle was not exported at that size",
                expected=" or ".join(f"{h}x{w}" for h, w in sizes) + " (height x width)",
                found="x".join(str(n) for n in size),
                fix="leave the size out, or export at that size too: hsnet-trt export --size "
                + (str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"),
            )
        return sizes[sizes.index(size)]  # whole numbers, whatever was given

    def check(self) -> None:
        """Check the hash of every file in the manifest.

        Raises:
            BundleError: for the first file that was altered or cannot be read.
        """
        for name in self.manifest.files:
            self.read(name)

    def _record(self, name: str) -> FileRecord:
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleError(
                f"the manifest does not vouch for {name}",
                expected=f"one of {sorted(self.manifest.files)}",
                fix="build the bundle again instead of adding files to it",
            )
        return record

    def _inside(self, name: str) -> Path:
        path = self.path / PurePosixPath(name)
        if not resolved(path).is_relative_to(resolved(self.path)):
            raise BundleError(
                f"{name} is a link that leads out of the bundle",
                fix="copy the bundle with its files, not with links",
            )
        return path

    def _check_presence(self) -> None:
        m = self.manifest
        used = [g.file for g in m.graphs] + [e.file for e in m.engines] + [g.file for g in m.golden]
        used += [g.bare for g in m.graphs if g.bare] + [e.plugin for e in m.engines if e.plugin]
        for name in used:
            self._record(name)
        for name, record in self.manifest.files.items():
            path = self._inside(name)
            try:
                size = path.stat().st_size if path.is_file() else None
            except OSError:
                size = None
            if size != record.bytes:
                raise BundleError(
                    f"{name} is {'missing from' if size is None else 'damaged in'} the bundle",
                    expected=f"{record.bytes} bytes",
                    found="no file" if size is None else f"{size} bytes",
                    fix="copy the bundle again; all of the folder belongs together",
                )
        for folder in FOLDERS:
            for path in (self.path / folder).rglob("*"):
                name = path.relative_to(self.path).as_posix()
                if not path.is_dir() and name not in self.manifest.files:
                    raise BundleError(
                        f"{name} lies in the bundle, but the manifest does not know it",
                        expected="only files that bundle.json names, with their hashes",
                        fix="remove it, or add engines with `hsnet-trt build-engine`",
                    )


def resolved(path: Path) -> Path:
    """The path with links resolved: their targets are read and replaced, not the links.

    Raises:
        BundleError: a circular link, or a name that no file can have.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circular link is a RuntimeError
        raise BundleError(
            f"{str(path)!r} leads nowhere",
            expected="a folder or a file",
            found=str(error).partition("\n")[0],
            fix="copy the bundle with its files, not with links",
        ) from error


def describe(entry: GraphFile) -> str:
    """One graph in a few words: `match 400x400 fp32 conv2d native`."""
    v = entry.variant
    words = (v.graph, f"{v.size[0]}x{v.size[1]}", v.precision, v.lowering, v.correlation)
    return " ".join(filter(None, words))
