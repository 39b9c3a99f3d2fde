"""One worker of a sweep: segments parts, and writes each as soon as it is done."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hsnet_trt.errors import BackendError, HSNetError
from hsnet_trt.runtime.pictures.detections import detections, encode_mask
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.serving.sweep.plan import (
    ERRORS,
    FOUND,
    IMAGES,
    SWEPT,
    content_column,
    locate,
    part_name,
    write_atomically,
)


def rows_of(path: str, result: Segmentation) -> list[dict[str, Any]]:
    """A row for each class found in an image: those of `detections`, with masks in COCO's form."""
    return [{"path": path, **one, "mask": encode_mask(one["mask"])} for one in detections(result)]


def schemas() -> dict[str, Any]:
    """The pyarrow schemas of the three tables, by name."""
    import pyarrow as pa

    mask = pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])
    path = {"path": pa.string()}
    found = {"class": pa.string(), "box": pa.list_(pa.int32(), 4), "area": pa.int64()}
    swept = {"height": pa.int32(), "width": pa.int32(), "found": pa.int32()}
    return {
        FOUND: pa.schema({**path, **found, "score": pa.float32(), "mask": mask}),
        SWEPT: pa.schema({**path, **swept}),
        ERRORS: pa.schema({**path, "error": pa.string()}),
    }


class SweepWorker:
    """Holds the network and the supports; Ray Data calls it with numbers of parts."""

    def __init__(
        self,
        content: dict[str, bytes],
        supports: bytes,
        out: str,
        images: str,
        options: dict[str, Any],
    ) -> None:
        """Write the bundle to a temporary folder and load the network; no shared folder is needed.

        Args:
            content: the bundle's files by name.
            supports: content of the file of encoded supports.
            out: folder or URI of the listing and the results.
            images: folder, Parquet file or URI of the images.
            options: arguments of `FewShotSegmenter.load`.

        Raises:
            HSNetError: see `FewShotSegmenter.load` and `load_supports`.
        """
        from pyarrow import parquet

        with tempfile.TemporaryDirectory(prefix="hsnet-trt-sweep-") as folder:
            bundle = Path(folder, "bundle")
            for name, data in content.items():
                path = bundle / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            Path(folder, "supports.npz").write_bytes(supports)
            self._segmenter = FewShotSegmenter.load(bundle, **options)
            self._segmenter.load_supports(Path(folder, "supports.npz"))
        self._files, self._out = locate(out)
        self._images, _ = locate(images)
        self._listing = parquet.ParquetFile(self._files.open_input_file(f"{self._out}/{IMAGES}"))
        self._group: tuple[tuple[str, int], Any] | None = None  # the last row group of images

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Sweep the parts of a batch.

        Args:
            batch: `part`, their numbers.

        Returns:
            Arrays with one element per part: `part`, and the number of its `images`, `errors` and
            `found` classes, and `seconds`.

        Raises:
            BackendError: the network failed on every image of a part.
        """
        done = [self.sweep(int(number)) for number in batch["part"]]
        return {key: np.array([row[key] for row in done]) for key in done[0]}

    def sweep(self, number: int) -> dict[str, float]:
        """Sweep one part and write its tables; `SWEPT`, which marks it as finished, comes last."""
        began = time.perf_counter()
        listed = self._listing.read_row_group(number).to_pylist()
        unread: dict[int, str] = {}
        tables: dict[str, list[dict[str, Any]]] = {FOUND: [], SWEPT: [], ERRORS: []}
        broken = 0
        with self._segmenter.stream(self._read(listed, unread), scores=True) as frames:
            for frame, row in zip(frames, listed, strict=True):
                path = row["path"]
                if frame.result is None:
                    broken += isinstance(frame.error, BackendError)
                    text = unread.get(frame.index) or str(frame.error)
                    text = text.replace(f"frame {frame.index} ", "the image ", 1)
                    tables[ERRORS].append({"path": path, "error": text})
                    continue
                rows = rows_of(path, frame.result.only_present())
                height, width = frame.result.labels.shape
                tables[FOUND] += rows
                tables[SWEPT].append(
                    {"path": path, "height": height, "width": width, "found": len(rows)}
                )
        if broken == len(listed):
            raise BackendError(
                f"the network failed on every image of part {number}",
                found=tables[ERRORS][0]["error"],
            )
        self._write(number, tables)
        return {
            "part": number,
            "images": len(listed),
            "errors": len(tables[ERRORS]),
            "found": len(tables[FOUND]),
            "seconds": time.perf_counter() - began,
        }

    def _read(self, listed: list[dict[str, Any]], unread: dict[int, str]) -> Iterator[bytes]:
        """The images' contents; empty for an unreadable one, whose reason goes to `unread`."""
        for index, row in enumerate(listed):
            try:
                yield self._content(row)
            except (OSError, ValueError, KeyError, HSNetError) as error:
                unread[index] = f"it cannot be read: {error}"
                yield b""

    def _content(self, row: dict[str, Any]) -> bytes:
        if row["row_group"] is None:
            files, path = self._images, row["path"]
            if row["file"] is not None and "://" in path:
                files, path = locate(path)
            elif row["file"] is not None and not path.startswith("/"):
                path = f"{row['file'].rpartition('/')[0]}/{path}"  # beside its table
            with files.open_input_stream(path) as stream:
                return bytes(stream.read())
        key = (row["file"], row["row_group"])
        if self._group is None or self._group[0] != key:
            from pyarrow import parquet

            source = parquet.ParquetFile(self._images.open_input_file(row["file"]))
            column = content_column(source.schema_arrow.names)
            if column is None:
                raise ValueError("the table gives no path for it")
            self._group = (key, source.read_row_group(row["row_group"], [column])[column])
        value = self._group[1][row["row"]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError("the table holds nothing for it")
        return content

    def _write(self, number: int, tables: dict[str, list[dict[str, Any]]]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        for name in (FOUND, ERRORS, SWEPT):
            if not tables[name] and name == ERRORS:
                continue
            buffer = pa.BufferOutputStream()
            table = pa.Table.from_pylist(tables[name], schema=schemas()[name])
            parquet.write_table(table, buffer, compression="zstd")
            path = f"{self._out}/{part_name(name, number)}"
            write_atomically(self._files, path, buffer.getvalue().to_pybytes())
