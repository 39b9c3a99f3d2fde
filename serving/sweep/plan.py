"""A sweep's plan, written before it starts: the list of images, divided into fixed parts.

A part is the unit of work and of resuming: it is done once all of its results are written.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.errors import InputError

PART = 64  # images per part: at most so many are repeated when a worker is killed
PLAN, IMAGES = "sweep.json", "listing.parquet"
_UNFINISHED = ".writing"  # suffix of incomplete files; a kill leaves them behind
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# The result tables: classes found, images segmented, and images that failed.
FOUND, SWEPT, ERRORS = "found", "images", "errors"


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's identity: a sweep with another plan must not write into its results."""

    images: str  # the folder or Parquet file, as given
    count: int  # of images
    part: int  # images per part
    parts: int
    bundle_sha256: str
    supports_sha256: str
    size: tuple[int, int]
    precision: str | None


def absolute(place: str) -> str:
    """The place as a process in another working directory must name it."""
    return place if "://" in place else str(Path(place).absolute())


def locate(place: str) -> tuple[Any, str]:
    """A path or URI -> pyarrow's file system and the path in it.

    Raises:
        InputError: the URI's file system is unknown or cannot be reached.
    """
    import pyarrow
    from pyarrow import fs

    try:
        if "://" in place:
            found, path = fs.FileSystem.from_uri(place)
            return found, path.rstrip("/")
        return fs.LocalFileSystem(), absolute(place)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{place} cannot be reached",
            expected="a folder, a file, or a URI as s3://bucket/folder",
            found=error,
        ) from error


def write_atomically(files: Any, path: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing; several may write the same at once."""
    if files.type_name == "local":
        files.create_dir(path.rpartition("/")[0], recursive=True)
        scratch = f"{path}.{secrets.token_hex(4)}{_UNFINISHED}"
        try:
            with files.open_output_stream(scratch) as stream:
                stream.write(content)
            files.move(scratch, path)
        except FileNotFoundError:  # another sweep into the same folder came to its end
            if not Path(path).is_file():
                raise
        return
    with files.open_output_stream(path) as stream:  # object stores show only complete objects
        stream.write(content)


def _name(info: Any) -> str:
    """The path of a pyarrow `FileInfo`; bytes that are not UTF-8 as \\xf6.

    Such a file cannot be opened by pyarrow, nor be named in a table.
    """
    try:
        return str(info.path)
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "backslashreplace")


def list_images(place: str, out: str = "") -> Any:
    """The images of a folder, or of a Parquet file or a folder of them, in a fixed order.

    Args:
        place: a path or URI.
        out: folder or URI of the results; nothing below it is listed, nor the results of others.

    Returns:
        A pyarrow table with `path`; `file`, the Parquet file that lists the image, else null;
        `row_group` and `row` of its content if that file holds it (in a column `bytes` or `image`,
        as in common data sets), else null.

    Raises:
        InputError: there are none, or it cannot be read.
    """
    import pyarrow as pa
    from pyarrow import fs

    files, path = locate(place)
    try:
        info = files.get_file_info(path)
        if info.type == fs.FileType.File:
            listed = [info]
        else:
            listed = files.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(
            f"{place} cannot be listed", found=error, fix="check the path, and who may read it"
        ) from error
    names = sorted(_name(i) for i in listed if i.type == fs.FileType.File)
    # Hidden files are not photographs, such as macOS' ._1.jpg and what is in .thumbnails.
    names = [n for n in names if n == path or "/." not in n.removeprefix(path)]
    # Tables of results name images, too, and would be taken for the images.
    results = [name.removesuffix(f"/{PLAN}") for name in names if name.endswith(f"/{PLAN}")]
    results += [locate(out)[1]] if out else []
    names = [n for n in names if not any(n.startswith(f"{folder}/") for folder in results)]
    tables = [name for name in names if name.lower().endswith(".parquet")]
    rows: list[tuple[str, Any, Any, Any]]
    if tables:
        rows = [row for name in tables for row in _rows(files, name, place)]
    else:
        rows = [(n, None, None, None) for n in names if n.lower().endswith(SUFFIXES)]
    if not rows:
        raise InputError(
            f"there are no images in {place}",
            expected=f"files ending in {', '.join(SUFFIXES)}, or .parquet",
            found=f"{len(names)} other files",
        )
    kinds = {"path": pa.string(), "file": pa.string(), "row_group": pa.int32(), "row": pa.int32()}
    columns = dict(zip(kinds, map(list, zip(*rows, strict=True)), strict=True))
    try:
        return pa.table(columns, schema=pa.schema(kinds))
    except pa.ArrowException as error:
        raise InputError(
            f"the paths in {place} are not text", expected="a column `path` of strings", found=error
        ) from error


def _rows(files: Any, name: str, place: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """The rows of `list_images` for one Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(files.open_input_file(name))
        columns = source.schema_arrow.names
        inside = content_column(columns)
        if "path" not in columns and inside is None:
            raise InputError(
                f"{name} holds no images",
                expected="a column `path`, `bytes` or `image`",
                found=", ".join(columns),
            )
        for group in range(source.num_row_groups):
            count = source.metadata.row_group(group).num_rows
            paths: list[str | None] = [None] * count
            if "path" in columns:
                paths = source.read_row_group(group, ["path"])["path"].to_pylist()
            for row, path in enumerate(paths):
                if inside is None and path is not None:
                    yield path, name, None, None
                else:
                    yield path or f"{name}#{group}.{row}", name, group, row
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name} of {place} cannot be read",
            found=error,
            fix="check the path, and who may read it",
        ) from error


def content_column(columns: list[str]) -> str | None:
    """The column that holds the images' content; None if there is none."""
    return next((name for name in ("bytes", "image") if name in columns), None)


def begin(out: str, images: str, plan: dict[str, Any], part: int | None = None) -> SweepPlan:
    """Write the plan of a new sweep, or read that of an earlier run.

    Args:
        out: folder or URI of the results.
        images: folder, Parquet file or URI of the images.
        plan: the fields of `SweepPlan` that do not depend on the images.
        part: images per part; None for `PART`, or what an earlier run took.

    Raises:
        InputError: `out` holds other files, another sweep's results or those of a sweep in other
            parts, or there are no images.
    """
    import pyarrow as pa
    from pyarrow import fs, parquet

    files, path = locate(out)
    known = files.get_file_info(f"{path}/{PLAN}")
    if known.type == fs.FileType.File:
        old = _read_plan(files, f"{path}/{PLAN}")
        new = {**dataclasses.asdict(old), **plan, "images": images}
        differing = [k for k, v in dataclasses.asdict(old).items() if new[k] != v]
        if differing:
            raise InputError(
                f"the results of another sweep are in {out}",
                expected=", ".join(f"{k} {getattr(old, k)}" for k in differing),
                found=", ".join(f"{k} {new[k]}" for k in differing),
                fix="choose another --out, or repeat the command that began it",
            )
        if part not in (None, old.part):
            raise InputError(
                f"the sweep in {out} was begun in other parts",
                expected=f"parts of {old.part} images",
                found=f"parts of {part}",
                fix="leave out --part (part= in Python), or choose another --out",
            )
        return old
    there = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
    # Left by a run that was killed before its plan was written.
    names = [_name(info).rpartition("/")[2] for info in there]
    foreign = [name for name in names if name != IMAGES and not name.endswith(_UNFINISHED)]
    if foreign:
        raise InputError(
            f"{out} holds something else than a sweep's results",
            found=", ".join(foreign[:5]),
            fix="choose another --out",
        )
    part = PART if part is None else part
    table = list_images(images, out)
    buffer = pa.BufferOutputStream()
    parquet.write_table(table, buffer, row_group_size=part)
    write_atomically(files, f"{path}/{IMAGES}", buffer.getvalue().to_pybytes())
    count = len(table)
    fresh = SweepPlan(images=images, count=count, part=part, parts=-(-count // part), **plan)
    text = json.dumps(dataclasses.asdict(fresh), indent=1) + "\n"
    write_atomically(files, f"{path}/{PLAN}", text.encode())
    return fresh


def _read_plan(files: Any, path: str) -> SweepPlan:
    try:
        with files.open_input_file(path) as stream:
            fields = json.loads(stream.read())
        return SweepPlan(**{**fields, "size": tuple(fields["size"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{path} is not a sweep's plan", found=error, fix="choose another --out"
        ) from error


def clear_unfinished(out: str) -> None:
    """Remove what killed workers of a finished sweep left half written."""
    from pyarrow import fs

    files, path = locate(out)
    if files.type_name == "local":
        for info in files.get_file_info(fs.FileSelector(path, recursive=True)):
            if info.path.endswith(_UNFINISHED):
                with suppress(FileNotFoundError):
                    files.delete_file(info.path)


def part_name(table: str, number: int) -> str:
    """The name of a part's file in one of the tables."""
    return f"{table}/part-{number:07d}.parquet"


def finished(out: str, plan: SweepPlan) -> set[int]:
    """The numbers of the finished parts: those whose file in `SWEPT` exists."""
    from pyarrow import fs

    files, path = locate(out)
    listed = files.get_file_info(fs.FileSelector(f"{path}/{SWEPT}", allow_not_found=True))
    names = {info.base_name for info in listed}
    return {n for n in range(plan.parts) if part_name(SWEPT, n).rpartition("/")[2] in names}
