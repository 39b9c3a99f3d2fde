"""Sweeps on Ray, killed and taken up again; and their parts without Ray."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

from hsnet_trt import FewShotSegmenter
from hsnet_trt.errors import BackendError, InputError
from hsnet_trt.runtime.pictures.detections import encode_mask
from hsnet_trt.serving.sweep import plan as sweep_plan
from hsnet_trt.serving.sweep import worker as sweep_worker
from hsnet_trt.serving.sweep.plan import begin, finished, list_images
from hsnet_trt.serving.sweep.sweep import sweep
from hsnet_trt.serving.sweep.worker import SweepWorker

pytest.importorskip("ray.data", reason="the extra `sweep` is not installed")
coco = pytest.importorskip("pycocotools.mask", reason="the extra `sweep` is not installed")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PLAN = {"bundle_sha256": "a", "supports_sha256": "b", "size": (96, 128), "precision": None}


def picture(number: int) -> np.ndarray:
    """Of every four: a red box, a green one, both, and none."""
    rng = np.random.default_rng(number)
    top, left = (int(n) for n in rng.integers(0, 40, 2))
    boxes = [
        (RED, (slice(top, top + 40), slice(left, left + 60))),
        (GREEN, (slice(top + 20, top + 60), slice(left + 70, left + 100))),
    ]
    shown = [boxes[:1], boxes[1:], boxes, []][number % 4]
    return scene((100 + number % 7, 140 + number % 5), shown)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, count: int) -> None:
    """Pictures, and three files that are none."""
    (folder / "below").mkdir(parents=True)
    for number in range(count):
        place = folder / "below" if number % 3 else folder
        (place / f"{number:04d}.png").write_bytes(png(picture(number)))
    (folder / "0001_bad.jpg").write_bytes(b"nonsense")
    (folder / "0002_cut.png").write_bytes(png(picture(1))[:100])
    (folder / "0003_empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")


@pytest.fixture(scope="module")
def supports(bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("supports") / "supports.npz"
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        for name, colour in (("red", RED), ("green", GREEN)):
            place = (slice(20, 100), slice(30, 150))
            mask = np.zeros((128, 192), bool)
            mask[place] = True
            segmenter.set_support(name, scene((128, 192), [(colour, place)]), mask)
        segmenter.save_supports(path)
    return path


@pytest.fixture(scope="module")
def local(bundle, supports):
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        segmenter.load_supports(supports)
        yield segmenter


def read(out: Path | str, table: str) -> list[dict]:
    return parquet.read_table(f"{out}/{table}").to_pylist()


def check(out: Path, local: FewShotSegmenter, count: int) -> None:
    """Every image once, good or bad; and every object as a segmenter finds it."""
    good, bad = [row["path"] for row in read(out, "images")], read(out, "errors")
    assert len(good) == len(set(good)) == count
    assert sorted(Path(row["path"]).name for row in bad) == [
        "0001_bad.jpg",
        "0002_cut.png",
        "0003_empty.png",
    ]
    assert all("the image" in row["error"] and "expected" in row["error"] for row in bad)
    found = {(row["path"], row["class"]): row for row in read(out, "found")}
    assert len(found) == len(read(out, "found"))
    sizes = {
        row["path"]: (row["height"], row["width"], row["found"]) for row in read(out, "images")
    }
    for path in good:
        result = local.segment(path)
        wanted = {name for name in result.classes if result.masks[name].any()}
        assert sizes[path] == (*result.labels.shape, len(wanted))
        assert {name for p, name in found if p == path} == wanted
        for name in wanted:
            row, mask = found[path, name], result.masks[name]
            decoded = coco.decode({**row["mask"], "counts": row["mask"]["counts"].encode()})
            np.testing.assert_array_equal(decoded.astype(bool), mask)
            assert row["area"] == mask.sum()
            x, y, width, height = row["box"]
            outside = mask.copy()
            outside[y : y + height, x : x + width] = False
            assert not outside.any()
            for edge in (mask[y], mask[y + height - 1], mask[:, x], mask[:, x + width - 1]):
                assert edge.any()
            assert row["score"] == pytest.approx(result.scores[name][mask].mean(), abs=1e-5)


def command(bundle: Path, supports: Path, images: Path | str, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "hsnet_trt.cli.main", "sweep", str(bundle)),
        *("--supports", str(supports), "--images", str(images), "--out", str(out)),
        *("--workers", "2", "--part", "4", "--backend", "onnxruntime"),
    ]


def workers() -> list[int]:
    """The processes of Ray's that hold a sweep's worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"MapWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait(until, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_in_the_middle_and_taken_up_again(bundle, supports, local, tmp_path):
    """The command is killed, then a worker of the next run; nothing is lost or done twice."""
    fill(tmp_path / "images", 400)
    out = tmp_path / "results"
    line = command(bundle, supports, tmp_path / "images", out)

    def parts() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in out.glob("images/*.parquet")}

    first = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait(lambda: len(parts()) >= 5, first)
    first.kill()
    first.communicate()
    end = time.monotonic() + 60
    while workers():  # Ray's processes end with the one that started them
        assert time.monotonic() < end
        time.sleep(0.1)
    before = parts()
    assert 5 <= len(before) < 101
    second = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait(lambda: len(parts()) >= len(before) + 5, second)
    os.kill(workers()[0], signal.SIGKILL)
    _, said = second.communicate(timeout=240)
    assert second.returncode == 0, said.decode()
    after = parts()
    assert len(after) == 101  # 403 files, four in a part
    assert {name: after[name] for name in before} == before
    check(out, local, 400)
    third = sweep(bundle, supports, str(tmp_path / "images"), str(out))  # nothing is left to do
    assert (third.images, third.done, third.done_now) == (403, 403, 0)
    assert parts() == after
    assert not list(out.rglob("*.writing"))


@pytest.mark.parametrize("name", ["listing.parquet", "sweep.json"])
def test_killed_while_it_was_being_begun(tmp_path, monkeypatch, name):
    fill(tmp_path / "images", 2)
    images, out = str(tmp_path / "images"), tmp_path / "results"
    whole = sweep_plan.write_atomically

    def dies(files: object, path: str, content: bytes) -> None:
        if path.endswith(name):
            out.mkdir(exist_ok=True)
            Path(f"{path}.writing").write_bytes(content[:9])
            raise KeyboardInterrupt
        whole(files, path, content)

    monkeypatch.setattr(sweep_plan, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        begin(str(out), images, PLAN, 4)
    monkeypatch.setattr(sweep_plan, "write_atomically", whole)
    assert begin(str(out), images, PLAN, 4).count == 5
    assert sorted(p.name for p in out.iterdir()) == ["listing.parquet", "sweep.json"]


def test_a_part_that_was_being_written_is_done_again(
    bundle, supports, local, tmp_path, monkeypatch
):
    fill(tmp_path / "images", 6)
    out = str(tmp_path / "results")
    plan = begin(out, str(tmp_path / "images"), PLAN, 4)
    content = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(content, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    whole = sweep_worker.write_atomically

    def dies(files: object, path: str, content: bytes) -> None:
        if "/images/" in path:
            raise KeyboardInterrupt
        whole(files, path, content)

    monkeypatch.setattr(sweep_worker, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        worker.sweep(0)
    assert finished(out, plan) == set()
    monkeypatch.setattr(sweep_worker, "write_atomically", whole)
    done = worker({"part": np.arange(plan.parts)})
    assert list(done["part"]) == [0, 1, 2] and done["images"].sum() == 9
    assert done["errors"].sum() == 3
    assert finished(out, plan) == {0, 1, 2}
    check(tmp_path / "results", local, 6)


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


def test_what_is_no_sweep(bundle, supports, tmp_path):
    fill(tmp_path / "images", 2)
    images, out = str(tmp_path / "images"), str(tmp_path / "results")
    begin(out, images, PLAN, 4)
    assert begin(out, images, PLAN, 100).part == 4  # as it was begun
    with pytest.raises(InputError, match="another sweep") as caught:
        begin(out, images, {**PLAN, "supports_sha256": "c"}, 4)
    assert "supports_sha256" in str(caught.value)
    with pytest.raises(InputError, match="another sweep"):
        sweep(bundle, supports, images, out)
    with pytest.raises(InputError, match="something else"):
        begin(images, images, PLAN, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    with pytest.raises(InputError, match="cannot be listed"):
        begin(str(tmp_path / "new"), str(tmp_path / "nowhere"), PLAN, 4)
    with pytest.raises(InputError, match="cannot be reached"):
        begin(str(tmp_path / "new"), "nonsense://bucket/folder", PLAN, 4)
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "empty" / "x.parquet")
    with pytest.raises(InputError, match="holds no images"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    (tmp_path / "empty" / "x.parquet").write_bytes(b"PAR1 or so")
    with pytest.raises(InputError, match="cannot be read"):
        begin(str(tmp_path / "new"), str(tmp_path / "empty"), PLAN, 4)
    with pytest.raises(InputError, match="no support set"):
        sweep(bundle, tmp_path / "none.npz", images, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_network_that_fails_everywhere_ends_the_sweep(bundle, supports, tmp_path, monkeypatch):
    fill(tmp_path / "images", 4)
    out = str(tmp_path / "results")
    plan = begin(out, str(tmp_path / "images" / "below"), PLAN, 2)
    content = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*.*")}
    worker = SweepWorker(content, supports.read_bytes(), out, plan.images, {"size": (96, 128)})
    runner = worker._segmenter._network.runner

    def fails(graph: str, inputs: dict) -> dict:
        raise BackendError("out of memory")

    monkeypatch.setattr(runner, "run", fails)
    with pytest.raises(BackendError, match="every image of part 0") as caught:
        worker.sweep(0)
    assert "out of memory" in str(caught.value)
    assert finished(out, plan) == set()


def test_ray_that_does_not_start(bundle, supports, tmp_path, monkeypatch):
    import ray

    fill(tmp_path / "images", 2)
    tried = []

    def fails(**options: object) -> None:
        tried.append(options)
        raise Exception("The current node timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    place = (bundle, supports, str(tmp_path / "images"), str(tmp_path / "results"))
    with pytest.raises(BackendError, match="Ray could not start") as caught:
        sweep(*place)
    assert "timed out" in str(caught.value) and len(tried) == 3
    with pytest.raises(BackendError, match="no Ray cluster answers"):
        sweep(*place, address="nowhere:6379")
    assert tried[-1]["address"] == "nowhere:6379"
    with pytest.raises(InputError, match="needs workers"):
        sweep(*place, workers=0)


def test_masks_as_coco_writes_them():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (64, 48), (2, 300)):
        for share in (0.0, 0.1, 0.5, 1.0):
            mask = rng.random(shape) < share
            encoded = encode_mask(mask)
            assert encoded["size"] == list(shape)
            runs = {**encoded, "counts": encoded["counts"].encode()}
            np.testing.assert_array_equal(coco.decode(runs).astype(bool), mask)
            assert coco.area(runs) == mask.sum()


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
