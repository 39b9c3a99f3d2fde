"""Segment many images with one support set: Ray Data runs workers on one machine or a cluster."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsnet_trt.errors import BackendError, HSNetError, InputError
from hsnet_trt.runtime.bundle import MANIFEST, Bundle
from hsnet_trt.runtime.device.machine import usable_cores
from hsnet_trt.runtime.matching.support_set import Origin, SupportSet
from hsnet_trt.serving.sweep.plan import SweepPlan, absolute, begin, clear_unfinished, finished
from hsnet_trt.serving.sweep.worker import SweepWorker

_ATTEMPTS = 3  # to start Ray, whose processes can time out on a busy machine


@dataclass(frozen=True)
class Progress:
    """The progress of a sweep; `*_now` counts this run only."""

    images: int  # in all
    done: int  # images in finished parts
    done_now: int
    errors_now: int
    found_now: int  # classes found in images
    seconds: float  # of this run


def sweep(
    bundle: str | os.PathLike[str],
    supports: str | os.PathLike[str],
    images: str,
    out: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    part: int | None = None,
    backend: str = "auto",
    size: int | tuple[int, int] | None = None,
    precision: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Segment every image of a folder or a Parquet table; an earlier run is continued.

    `out` gets three tables, as one Parquet file per part: `found` (path, class, box, area, score,
    COCO mask; a row for each class found in an image), `images` (path, height, width and the number
    of classes found; a row for each segmented image) and `errors` (path, error).

    Args:
        bundle: the bundle; workers on other machines get its content from here.
        supports: a file of `FewShotSegmenter.save_supports`.
        images: a folder of pictures, a Parquet file with a column `path`, `bytes` or `image`, or a
            folder of such files; a path, or a URI that every worker can read (s3://, gs://).
        out: folder or URI for the results, which every worker can write.
        address: a Ray cluster to use; None for this machine alone.
        workers: how many; None for one per GPU, or without GPUs one per CPU core.
        part: images per part; None for 64, or what the earlier run took.
        backend: see `FewShotSegmenter.load`, as for `size` and `precision`.
        on_progress: called at the start and after each part.

    Returns:
        The final progress.

    Raises:
        InputError: no images, no supports, another sweep's results or those of one in other parts
            in `out`, or no workers.
        BundleError: the bundle is damaged.
        BackendError: Ray or a worker failed, or the network failed on every image of a part.
    """
    opened = Bundle.open(bundle)
    chosen = opened.size(size)
    SupportSet.load(supports, Origin.of(opened.manifest, chosen))  # fails here, not in each worker
    kept = Path(supports).read_bytes()
    manifest = (opened.path / MANIFEST).read_bytes()
    plan = begin(
        out,
        images,
        {
            "bundle_sha256": hashlib.sha256(manifest).hexdigest(),
            "supports_sha256": hashlib.sha256(kept).hexdigest(),
            "size": chosen,
            "precision": precision,
        },
        part,
    )
    done = finished(out, plan)
    left = [number for number in range(plan.parts) if number not in done]
    already = sum(_images_in(plan, number) for number in done)
    progress = Progress(plan.count, already, 0, 0, 0, 0.0)
    on_progress(progress)
    if not left:
        clear_unfinished(out)
        return progress
    # All files, since workers open the bundle, which checks that none is missing.
    content = {name: opened.read(name) for name in opened.manifest.files}
    content[MANIFEST] = manifest
    options = {"backend": backend, "size": chosen, "precision": precision}
    began = time.monotonic()
    with _RaySession(address, workers) as (count, gpus):
        places = (absolute(out), absolute(images))
        for row in _run(left, min(count, len(left)), gpus, content, kept, *places, options):
            progress = Progress(
                plan.count,
                progress.done + int(row["images"]),
                progress.done_now + int(row["images"]),
                progress.errors_now + int(row["errors"]),
                progress.found_now + int(row["found"]),
                time.monotonic() - began,
            )
            on_progress(progress)
    missing = set(range(plan.parts)) - finished(out, plan)
    if missing:
        raise BackendError(
            "the sweep ended with parts missing", found=f"{len(missing)} parts", fix="run it again"
        )
    clear_unfinished(out)
    return progress


def _images_in(plan: SweepPlan, number: int) -> int:
    return min(plan.part, plan.count - number * plan.part)


class _RaySession:
    """A Ray session for the length of a sweep."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        if workers is not None and workers < 1:
            raise InputError("a sweep needs workers", expected="1 or more", found=workers)
        self._address, self._workers = address, workers

    def __enter__(self) -> tuple[int, bool]:
        """Start or join Ray; returns the number of workers, and whether there are GPUs."""
        import ray

        options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if self._address is None:
            cores = max(self._workers or 0, usable_cores())
            options.update(num_cpus=cores, include_dashboard=False)
        else:
            options["address"] = self._address
        for attempt in range(_ATTEMPTS):
            try:
                ray.init(**options)
                break
            except Exception as error:  # Ray raises plain Exceptions
                ray.shutdown()
                if attempt == _ATTEMPTS - 1:
                    raise BackendError(
                        "Ray could not start"
                        if self._address is None
                        else "no Ray cluster answers",
                        expected=f"a cluster at {self._address}" if self._address else None,
                        found=str(error)[:500],
                        fix="run it again when the machine has less to do: Ray gives its own "
                        "processes some 15 s to start; the sweep goes on where it was",
                    ) from error
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        return self._workers or gpus or int(there.get("CPU", 1)), gpus > 0

    def __exit__(self, *failure: object) -> None:
        import ray

        ray.shutdown()


def _run(
    left: list[int],
    workers: int,
    gpus: bool,
    content: dict[str, bytes],
    supports: bytes,
    out: str,
    images: str,
    options: dict[str, Any],
) -> Any:
    """Run the parts; yields `SweepWorker`'s row of each as it finishes."""
    import logging

    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    shared = ray.put(content)  # sent once per machine, not once per worker
    parts = ray.data.from_items([{"part": n} for n in left], override_num_blocks=len(left))
    swept = parts.map_batches(
        _Unpacked,
        fn_constructor_args=([shared], supports, out, images, options),
        batch_size=1,
        concurrency=workers,
        num_cpus=1,
        num_gpus=1 if gpus and options["backend"] != "onnxruntime" else None,
    )
    try:
        yield from swept.iter_rows()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, HSNetError):
            raise cause from error
        raise BackendError("a worker failed", found=str(error)[-1500:]) from error


class _Unpacked(SweepWorker):
    """A worker whose bundle is in Ray's object store."""

    def __init__(self, shared: list[Any], *arguments: Any) -> None:
        import ray

        super().__init__(ray.get(shared[0]), *arguments)
