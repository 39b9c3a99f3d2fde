"""The judge of videos: what it makes of answers that are known to be good, blind, late or cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from PIL import Image as PILImage
from typer.testing import CliRunner

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from hsnet_trt import FewShotSegmenter
from hsnet_trt.benchmarks.accuracy.video import (
    Answer,
    Follow,
    Streamed,
    answered,
    by_episode,
    evaluate_videos,
    judge_video,
)
from hsnet_trt.benchmarks.accuracy.video_report import table
from hsnet_trt.cli.main import app
from hsnet_trt.data.drawn.videos import FEWEST, Video, open_videos
from hsnet_trt.data.episodes.episode import Episode, Image, Mask
from hsnet_trt.errors import InputError

SIZE = (60, 80)
VIDEOS = open_videos(size=SIZE, frames=FEWEST, seed=3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("judged") / "bundle")


def knowing(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
    for frame, _ in zip(video, pictures, strict=True):
        yield Answer(frame.truth, frame.visible)


def blind(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
    for picture in pictures:
        yield Answer(np.zeros(picture.shape[:2], np.bool_), present=False)


def late(by: int) -> Follow:
    """The truth, so many frames late."""

    def follow(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
        truths = [frame.truth for frame in video]
        for number, _ in enumerate(pictures):
            yield Answer(truths[max(number - by, 0)])

    return follow


def test_answers_that_are_known_are_judged_as_what_they_are() -> None:
    ways = {"knowing": knowing, "blind": blind, "late": late(3), "later": late(12)}
    seen: list[int] = []
    judgement = evaluate_videos(
        ways, VIDEOS, 3, on_video=lambda what, done, total: seen.append(done)
    )
    assert seen == [0, 1, 2, 3]
    assert (judgement.frames, judgement.size, judgement.shots, judgement.seed) == (48, SIZE, 1, 3)
    best, none, some, worse = (row.figures for row in judgement.rows)
    assert best.j and best.f and best.flicker and best.shown_absent and best.absence and best.again
    assert best.j.value == best.f.value == 100
    assert best.flicker.value == best.shown_absent.value == 0
    assert best.denied and none.denied and some.denied is None, "one of them does not say"
    assert (best.denied.value, none.denied.value) == (0, 100)
    assert best.absence.value == best.again.value == 0
    assert none.j and none.flicker and none.shown_absent and none.missed and none.again_soon
    assert none.j.value == none.flicker.value == none.shown_absent.value == 0
    assert none.missed.value == 100 and none.again_soon.value == 0
    assert some.j and some.absence and some.absence_soon and some.shown_absent
    assert worse.j and worse.absence_soon and none.j.value < worse.j.value < some.j.value < 100
    assert 1 <= some.absence.value <= 3, "partly seen frames before may show it earlier"
    assert some.absence_soon.value == 100 > worse.absence_soon.value
    assert some.shown_absent.value > 0


def test_a_way_may_read_ahead_and_sees_each_picture_once() -> None:
    def ahead(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
        held = list(pictures)
        yield from knowing(video, held)

    video = VIDEOS[0]
    assert judge_video(ahead, video) == judge_video(knowing, video)
    frames = [frame.image for frame in video]
    assert all(
        (a.image == b).all() for (a, _), b in zip(answered(knowing, video), frames, strict=True)
    )


def test_a_video_must_be_answered_to_its_end() -> None:
    def short(video: Video, pictures: Iterable[Image]) -> Iterator[Answer]:
        yield next(blind(video, pictures))

    with pytest.raises(InputError, match="not answered to its end"):
        judge_video(short, VIDEOS[0])
    for ways, count in (({}, 1), ({"blind": blind}, 0)):
        with pytest.raises(InputError, match="nothing to judge"):
            evaluate_videos(ways, VIDEOS, count)


def test_a_stream_is_what_the_segmenter_answers(bundle: Path) -> None:
    video = VIDEOS[0]
    with FewShotSegmenter.load(bundle, "onnxruntime") as segmenter:
        segmenter.set_support("another", video.supports[0], video.support_masks[0])
        answers = list(answered(Streamed(segmenter), video))
        assert segmenter.classes == ("object",)
        for number in (0, 20, 47):
            frame, answer = answers[number]
            result = segmenter.segment(frame.image)
            np.testing.assert_array_equal(answer.mask, result.masks["object"])
            assert answer.present is result.present["object"]
        assert any(answer.mask.any() for _, answer in answers)


def test_a_trivial_answer_gets_each_frame_as_an_episode() -> None:
    def marked(episode: Episode) -> Mask:
        assert (episode.supports == video.supports).all() and not episode.query_mask.any()
        shown.append(episode.query)
        return episode.support_masks[0]

    video, shown = VIDEOS[1], []
    for (frame, answer), query in zip(answered(by_episode(marked), video), shown, strict=False):
        assert query is frame.image
        assert (answer.mask == video.support_masks[0]).all() and answer.present is None
    assert len(shown) == len(video)


def test_the_command_writes_the_same_judgement_every_time(bundle: Path, tmp_path: Path) -> None:
    def judge(out: Path) -> dict:
        done = CliRunner().invoke(
            app,
            ["evaluate-video", str(bundle), "--videos", "2", "--frames", "48",
             "--frame-size", "60x80", "--seed", "3", "--backend", "onnxruntime", "--shots", "2",
             "--out", str(out)],
            env={"COLUMNS": "120"},
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "frame by frame" in done.output and "colour histogram" in done.output
        kept = json.loads((out / "video.json").read_text())
        kept.pop("facts")
        return kept

    first, second = judge(tmp_path / "a"), judge(tmp_path / "b")
    assert first == second
    assert [row["name"] for row in first["rows"]] == [
        "frame by frame", "steady", "all foreground", "colour histogram",
    ]  # fmt: skip
    assert first["shots"] == 2 and len(first["rows"][0]["videos"]) == 2
    assert (tmp_path / "a/video.jpg").read_bytes() == (tmp_path / "b/video.jpg").read_bytes()
    assert PILImage.open(tmp_path / "a/video.jpg").size == (6 * 200, 4 * 150)
    with PILImage.open(tmp_path / "a/video.webp") as moving:
        assert moving.size == (2 * 320, 240) and moving.n_frames == 48
    page = (tmp_path / "a/video.md").read_text()
    j = first["rows"][0]["figures"]["j"]
    assert f"| J, % | {j['value']:.1f} [{j['low']:.1f}, {j['high']:.1f}] |" in page
    assert "2 videos of 48 frames, 60 x 80, seed 3; resnet50, onnxruntime fp32, " in page
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "video.jpg", "video.json", "video.md", "video.webp",
    ]  # fmt: skip


def test_the_command_judges_memories_and_steadiness(bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["evaluate-video", str(bundle), "--videos", "1", "--frames", "48", "--frame-size", "60x80",
         "--backend", "onnxruntime", "--memory", "2", "--out", str(tmp_path)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "video.json").read_text())
    names = ["frame by frame", "steady", "only present", "cropped support", "steady, only present", 
             "memory 2", "memory 2, steady"]  # fmt: skip
    assert [row["name"] for row in kept["rows"]] == names
    assert list(kept["facts"]["milliseconds"]) == names
    page = (tmp_path / "video.md").read_text()
    assert "| time a frame, frame by frame = 1 | 1.00 | " in page


def test_the_table_has_a_row_for_each_measure_and_a_column_for_each_way() -> None:
    heads, rows = table(evaluate_videos({"knowing": knowing, "blind": blind}, VIDEOS, 2))
    assert heads == ["", "knowing", "blind"]
    assert rows[0] == ["J, %", "100.0 [100.0, 100.0]", "0.0 [0.0, 0.0]"]
    assert rows[2][:2] == ["flicker, %", "0.00 [0.00, 0.00]"] and len(rows) == 10
