"""`hsnet-trt video` as a person runs it: a generated video, a folder, and what is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.tiny_graphs import SIZE
from helpers.command import hsnet
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

from hsnet_trt.runtime.pictures.overlay import class_colour

cv2 = pytest.importorskip("cv2")
BOX = (slice(10, 80), slice(20, 110))
SUPPORT = ("--support", "red=red.png,mask.png", "--backend", "onnxruntime")


def frame(index: int) -> np.ndarray:
    """A red box that wanders, a green one that stays; both sides a multiple of 16."""
    red = np.s_[40:120, 10 + 12 * index : 90 + 12 * index]
    return scene((160, 240), [(RED, red), (GREEN, np.s_[130:150, 10:60])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video")
    make_bundle(path / "bundle")
    mask = np.zeros(SIZE, np.uint8)
    mask[BOX] = 255
    Image.fromarray(mask).save(path / "mask.png")
    Image.fromarray(scene(SIZE, [(RED, BOX)])).save(path / "red.png")
    writer = cv2.VideoWriter(
        str(path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (240, 160)
    )
    assert writer.isOpened()
    (path / "shots").mkdir()
    for index in range(10):
        writer.write(frame(index)[:, :, ::-1])
        Image.fromarray(frame(index)).save(path / f"shots/{index}.png")
    writer.release()
    (path / "shots/5.png").write_bytes(b"no picture")
    return path


def is_tinted(picture: np.ndarray, index: int) -> bool:
    """Whether the middle of the red box has the overlay's tint, up to what a codec loses."""
    tinted = 0.55 * np.array(RED) + 0.45 * np.array(class_colour(0))
    return float(np.abs(picture[60:100, 30 + 12 * index] - tinted).mean()) < 12


def test_a_video_with_overlays(folder: Path, tmp_path: Path) -> None:
    done = hsnet(
        "video",
        "bundle",
        "--input",
        "in.mp4",
        "--output",
        tmp_path / "o.mp4",
        *SUPPORT,
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "10 frames in" in done.stderr and "0 failed, 0 dropped" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]
    read = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert read.get(cv2.CAP_PROP_FPS) == 12.5
    pictures = []
    while True:
        there, picture = read.read()
        if not there:
            break
        pictures.append(picture[:, :, ::-1])
    assert len(pictures) == 10 and pictures[0].shape == (160, 240, 3)
    for index, picture in enumerate(pictures):
        assert is_tinted(picture, index)
        assert np.abs(picture[135:145, 20:50].astype(int) - GREEN).mean() < 15  # not shown: kept


def test_a_folder_with_a_broken_photograph(folder: Path, tmp_path: Path) -> None:
    done = hsnet(
        "video",
        "bundle",
        "--input",
        "shots",
        "--output",
        f"{tmp_path}/out/",
        "--limit",
        8,
        *SUPPORT,
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "frame 5 cannot be opened" in done.stderr and "1 failed" in done.stderr
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == 7  # a photograph that cannot be read has no picture
    with Image.open(written[6]) as picture:
        assert is_tinted(np.asarray(picture), 7)


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    cases = [
        (("--input", "none.mp4"), "there is no input"),
        (("--input", "notes.mp4"), "cannot be opened"),
        (("--input", "in.mp4", "--output", tmp_path / "x.txt"), "not a video file"),
    ]
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "notes.mp4").write_text("no video")
    cases.append((("--input", "empty"), "no photographs"))
    (tmp_path / "out.mp4").write_bytes(b"older")
    for arguments, says in cases:
        given = ("--output", tmp_path / "out.mp4") if "--output" not in arguments else ()
        done = hsnet("video", "bundle", *arguments, *given, *SUPPORT, folder=folder)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert says in done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == b"older"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "in.mp4", "--output", "in.mp4"),
        ("--input", "frames", "--output", "frames"),
        ("--input", "in.mp4", "--output", "frames", "--support", "x=frames/000003.jpg,mask.png"),
        ("--input", "in.mp4", "--output", "o.mp4", "--tracks", "t.jsonl", "--events", "t.jsonl"),
    ],
)
def test_what_is_read_is_not_overwritten(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(4):
        Image.fromarray(frame(index)).save(tmp_path / f"frames/{index:06d}.jpg")
    for name in ("in.mp4", "red.png", "mask.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    done = hsnet("video", folder / "bundle", *arguments, *SUPPORT, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "would be overwritten" in done.stderr or "two records" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_frames_that_change_their_size_are_fitted_into_the_first(
    folder: Path, tmp_path: Path
) -> None:
    """As a stream whose camera is switched: one warning, every frame in the file."""
    (tmp_path / "frames").mkdir()
    red = scene((320, 320), [(RED, np.s_[80:240, 80:240])])
    for index in range(6):
        picture = frame(0) if index < 2 else red
        Image.fromarray(picture).save(tmp_path / f"frames/{index}.png")
    arguments = ("--input", tmp_path / "frames", *SUPPORT)
    done = hsnet("video", "bundle", *arguments, "--output", tmp_path / "o.mp4", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("changed their size from 240 x 160 to 320 x 320") == 1
    read = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    pictures = [read.read()[1][:, :, ::-1].astype(int) for _ in range(6)]
    assert not read.read()[0]
    for picture in pictures[2:]:
        assert picture.shape == (160, 240, 3)
        assert picture[:, :32].max() < 24 and picture[:, -32:].max() < 24  # bars at both sides
        assert is_tinted(picture, 5) and is_tinted(picture, 10)  # columns 90 and 150 of 80 to 160
        assert not is_tinted(picture, 3) and not is_tinted(picture, 12)
    done = hsnet("video", "bundle", *arguments, "--output", f"{tmp_path}/out/", folder=folder)
    assert done.returncode == 0 and "changed their size" not in done.stderr
    sizes = []
    for path in sorted((tmp_path / "out").iterdir()):
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes == [(240, 160)] * 2 + [(320, 320)] * 4


def test_things_are_followed_written_and_drawn(folder: Path, tmp_path: Path) -> None:
    """The red box wanders over the whole picture; with a memory, and frames averaged."""
    done = hsnet(
        "video", "bundle", "--input", "in.mp4", "--output", str(tmp_path / "out"), "--memory", "2",
        "--tracks", str(tmp_path / "tracks.txt"), "--events", str(tmp_path / "events.jsonl"),
        *SUPPORT, folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in (tmp_path / "tracks.txt").read_text().splitlines()]
    # Three frames until a thing counts.
    assert [int(row[0]) for row in rows] == list(range(3, 11))
    assert {row[1] for row in rows} == {"1"}
    lefts = [int(row[2]) for row in rows]
    assert all(abs(left - (11 + 12 * (k + 2))) < 16 for k, left in enumerate(lefts))
    assert lefts == sorted(lefts)
    done = hsnet(
        "video", "bundle", "--input", "in.mp4", "--no-steady",
        "--tracks", str(tmp_path / "single.txt"), *SUPPORT, folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    single = [line.split(",") for line in (tmp_path / "single.txt").read_text().splitlines()]
    assert [row[:2] for row in single] == [row[:2] for row in rows]
    for k, row in enumerate(single):
        assert abs(int(row[2]) - (11 + 12 * (k + 2))) < 16
    assert all(0.5 < float(row[6]) <= 1 for row in rows)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e["id"], e["frame"]) for e in events] == [
        ("entered", 1, 0),
        ("left", 1, 9),
    ]
    assert events[1]["seconds"] == pytest.approx(9 / 12.5, abs=1e-3)
    drawn = np.asarray(Image.open(sorted((tmp_path / "out").iterdir())[6]))
    left, top = lefts[4] - 1, int(rows[4][3]) - 1
    line, inside = drawn[top + 40, left], drawn[top + 40, left + 20]
    assert line[1] > 180 > inside[1]  # the class's colour is green, the thing red, tinted


def test_a_form_of_tracks_that_is_not_known_is_refused(folder: Path, tmp_path: Path) -> None:
    done = hsnet(
        "video", "bundle", "--input", "in.mp4", "--output", str(tmp_path / "out"),
        "--tracks", str(tmp_path / "tracks.csv"), *SUPPORT, folder=folder,
    )  # fmt: skip
    assert done.returncode == 1 and ".jsonl" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_refused_and_does_not_crash(
    folder: Path, tmp_path: Path
) -> None:
    """As of an archive from elsewhere; OpenCV would end the process."""
    film = os.fsdecode(os.fsencode(tmp_path) + b"/f\xe4.mp4")
    Path(film).write_bytes((folder / "in.mp4").read_bytes())
    other = os.fsdecode(os.fsencode(tmp_path) + b"/o\xe4.mp4")
    for source, target in ((film, tmp_path / "o.mp4"), ("in.mp4", other)):
        done = hsnet(
            "video", "bundle", "--input", source, "--output", target, *SUPPORT, folder=folder
        )
        assert done.returncode == 1 and "a name in UTF-8" in done.stderr
    assert [os.fspath(path) for path in tmp_path.iterdir()] == [film]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such locale")
def test_names_in_utf8_where_the_locale_is_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "gr\u00f6\u00dfe.mp4").write_bytes((folder / "in.mp4").read_bytes())
    options = ["--input", "gr\u00f6\u00dfe.mp4", "--output", "\u00f6.mp4", "--no-steady"]
    support = f"red={folder}/red.png,{folder}/mask.png"
    subprocess.run(
        [sys.executable, "-m", "hsnet_trt.cli.main", "video", str(folder / "bundle"), *options,
         "--support", support],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=True,
    )  # fmt: skip
    assert cv2.VideoCapture(str(tmp_path / "\u00f6.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 10
