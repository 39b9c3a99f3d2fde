"""Images inside tables and in a bucket."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from extras.sweep.pictures import PLAN, picture, png, read

from hsnet_trt.errors import InputError
from hsnet_trt.serving.sweep.plan import begin, list_images
from hsnet_trt.serving.sweep.sweep import sweep
from hsnet_trt.serving.sweep.worker import SweepWorker

pytest.importorskip("ray.data", reason="the extra `sweep` is not installed")
pytest.importorskip("pycocotools.mask", reason="the extra `sweep` is not installed")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_images_inside_tables(bundle, supports, local, tmp_path):
    """As data sets have them: bytes beside a path, a struct, and paths beside the table."""
    content = [png(picture(number)) for number in range(10)]
    names = [f"{number}.png" for number in range(10)]
    (tmp_path / "t").mkdir()
    for name, data in zip(names, content, strict=True):
        (tmp_path / "t" / name).write_bytes(data)
    tables = {
        "bytes": {"path": names, "bytes": [*content[:9], None]},
        "image": {"image": [{"bytes": data, "path": None} for data in content], "label": names},
        "path": {"path": [*names[:5], *(f"file://{tmp_path}/t/{name}" for name in names[5:])]},
    }
    for kind, columns in tables.items():
        table = tmp_path / "t" / f"{kind}.parquet"
        parquet.write_table(pa.table(columns), table, row_group_size=4)
        out = str(tmp_path / kind)
        plan = begin(out, str(table), PLAN, 3)
        assert (plan.count, plan.parts) == (10, 4)
        files = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
        worker = SweepWorker(files, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
        worker({"part": np.arange(4)})
        errors = read(out, "errors") if kind == "bytes" else []
        assert [row["path"] for row in errors] == (["9.png"] if kind == "bytes" else [])
        swept = read(out, "images")
        assert len(swept) == 10 - len(errors)
        if kind == "bytes":
            assert "holds nothing" in errors[0]["error"]
        listed = list_images(str(table))["path"].to_pylist()
        for number, path in enumerate(listed[:9]):
            expected = {n for n, m in local.segment(picture(number)).masks.items() if m.any()}
            assert {r["class"] for r in read(out, "found") if r["path"] == path} == expected


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_an_error_of_its_own_and_hidden_files_are_none(
    bundle, supports, tmp_path
):
    """As of an archive from elsewhere, and as macOS and file managers leave them."""
    images, out = tmp_path / "images.v1", str(tmp_path / "results")
    for name in (b"good.png", b"f\xf6.png", b"._good.png", b".thumbnails/good.png"):
        path = Path(os.fsdecode(os.fsencode(images) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(0)))
    plan = begin(out, str(images), PLAN, 4)
    files = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(files, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    worker.sweep(0)
    assert [row["path"] for row in read(out, "images")] == [str(images / "good.png")]
    assert [row["path"] for row in read(out, "errors")] == [str(images / r"f\xf6.png")]
    (tmp_path / "other").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/other/f\xf6.png")).write_bytes(b"")
    with pytest.raises(InputError, match="something else"):
        begin(str(tmp_path / "other"), str(images), PLAN, 4)


def test_rows_without_a_path_are_errors_of_their_own(bundle, supports, tmp_path):
    (tmp_path / "0.png").write_bytes(png(picture(0)))
    parquet.write_table(pa.table({"path": ["0.png", None]}), tmp_path / "t.parquet")
    out = str(tmp_path / "out")
    plan = begin(out, str(tmp_path / "t.parquet"), PLAN, 4)
    files = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(files, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    assert worker.sweep(0)["errors"] == 1
    assert [row["path"] for row in read(out, "images")] == ["0.png"]
    (row,) = read(out, "errors")
    assert row["path"].endswith("t.parquet#0.1") and "no path" in row["error"]


def test_paths_that_are_not_text_are_refused(tmp_path):
    parquet.write_table(pa.table({"path": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="not text"):
        list_images(str(tmp_path / "t.parquet"))


def test_results_among_the_images_are_no_images(bundle, supports, tmp_path):
    """Where a sweep writes into the folder it reads, or into one beside another sweep's."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        (images / f"{number}.png").write_bytes(png(picture(number)))
    wanted = [str(images / "0.png"), str(images / "1.png")]
    first = str(images / "first")
    plan = begin(first, str(images), PLAN, 4)
    files = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(files, supports.read_bytes(), first, plan.images, {"size": (96, 128)})
    worker.sweep(0)
    assert list_images(str(images))["path"].to_pylist() == wanted
    assert begin(str(images / "second"), str(images), PLAN, 4).count == 2
    (images / "second" / "sweep.json").unlink()  # killed before its plan was written
    assert begin(str(images / "second"), str(images), PLAN, 4).count == 2
    listed = parquet.read_table(images / "second" / "listing.parquet")
    assert listed["path"].to_pylist() == wanted
    # Results may be read as a table by name, as to sweep again what another sweep has found.
    assert list_images(f"{first}/found")["path"].to_pylist()[0] == wanted[0]


def test_on_s3(bundle, supports, local, tmp_path, monkeypatch):
    """Images from a bucket, results into it; a server of this process's own answers."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    moto = server.ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        store = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        store.create_bucket(Bucket="pictures")
        for number in range(6):
            store.put_object(Bucket="pictures", Key=f"in/{number}.png", Body=png(picture(number)))
        store.put_object(Bucket="pictures", Key="in/bad.jpg", Body=b"nonsense")
        there = f"s3://pictures/%s?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        ended = sweep(bundle, supports, there % "in", there % "out", workers=1, part=3)
        assert (ended.images, ended.done_now, ended.errors_now) == (7, 7, 1)
        assert sweep(bundle, supports, there % "in", there % "out").done_now == 0
        for kind, count in (("images", 6), ("errors", 1)):
            rows = []
            for entry in store.list_objects(Bucket="pictures", Prefix=f"out/{kind}/")["Contents"]:
                body = store.get_object(Bucket="pictures", Key=entry["Key"])["Body"].read()
                rows += parquet.read_table(io.BytesIO(body)).to_pylist()
            assert len(rows) == count
        for row in rows:
            assert row["path"] == "pictures/in/bad.jpg"
    finally:
        moto.stop()
