"""Where a command may write, and what errors of the file system tell people."""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hsnet_trt.cli import main as command
from hsnet_trt.cli.shared.places import check_folder, explain
from hsnet_trt.errors import InputError

VIDEO = ("video", "b", "--input", "photographs", "--support", "x=q.png,m.png")


@pytest.mark.parametrize("name", ["", "new", "new/deeper"])
def test_a_folder_or_what_can_become_one_is_fine(tmp_path: Path, name: str) -> None:
    check_folder(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be a folder") as caught:
        check_folder(tmp_path / name)
    assert caught.value.found == f"{tmp_path / 'file'} is a file" and "--out" in str(
        caught.value.fix
    )


def test_a_bundle_takes_no_other_files(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").touch()
    with pytest.raises(InputError, match="takes no other files"):
        check_folder(tmp_path)


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be written") as caught:
        check_folder(tmp_path / "new")
    assert str(tmp_path) in str(caught.value.found)


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "who may read and write"),
        (errno.EEXIST, "in the way"),
        (errno.EIO, "check the path"),
    ],
)
def test_errors_of_files_say_what_mends_them(number: int, fix: str) -> None:
    text = explain(OSError(number, os.strerror(number), "there/x.npz"))
    assert text.startswith("there/x.npz cannot be read or written\n")
    assert os.strerror(number) in text and fix in text.rpartition("fix:")[2]


def test_an_error_without_a_file_is_explained_too() -> None:
    full = explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert full.startswith("No space left on device\n  fix:      free some space")
    assert explain(OSError("broken pipe")).startswith("broken pipe\n")


def test_the_command_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png")

    monkeypatch.setattr(command, "app", full)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 1
    shown = capsys.readouterr().err
    assert "error: out.png cannot be read or written" in shown and "free some space" in shown


@pytest.mark.parametrize("by_typer", [False, True])
def test_ctrl_c_is_answered(
    by_typer: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise SystemExit(130) if by_typer else KeyboardInterrupt

    monkeypatch.setattr(command, "app", stopped)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130 and capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    "words",
    [
        ("segment", "b", "q.png", "--support", "x=q.png,m.png", "--save-supports", "file/s.npz"),
        ("calibrate", "b", "--data", "procedural", "--save", "file/ranges.json"),
        ("segment", "b", "q.png", "--support", "x=q.png,m.png", "--save-supports", "folder"),
        ("calibrate", "b", "--data", "procedural", "--save", "folder"),
        ("calibrate-presence", "b", "--data", "fss", "--out", "file/bundle"),
        ("export-triton", "b", "--out", "b"),
        ("benchmark", "b", "--plot", "folder"),
        ("benchmark", "--work", "file/work"),
        ("video", "b", "--input", "camera:0", "--support", "x=q.png,m.png", "--output", "file/x/"),
        ("video", "b", "--input", "camera:0", "--support", "x=q.png,m.png", "--output", "x.gif"),
        ("benchmark", "b", "--plot", "file/plot.png"),
        ("benchmark", "b", "--area", "2"),
        ("benchmark", "b", "--readme", "none.md"),
        ("benchmark", "b", "--readme", "file"),
    ],
)
def test_a_place_that_will_not_do_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/bundle.json").touch()  # opening it would be another error
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    done = CliRunner().invoke(command.app, [*words])
    assert done.exit_code == 1
    says = ("cannot be a folder", "no other files", "mask area", "none.md", "no place for the")
    says += ("is a folder", "cannot be written", "is not a video file")
    assert any(text in str(done.exception) for text in says), done.exception


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("matplotlib", ("benchmark", "b")),
        ("skimage", ("benchmark",)),
        ("cv2", ("benchmark",)),
        ("matplotlib", ("demo",)),
        ("skimage", ("demo",)),
        ("matplotlib", ("sensitivity", "b", "--data", "procedural")),
        ("pycocotools", ("segment", "b", "q.png", "--support", "x=q.png,m.png", "--coco")),
        ("pycocotools", ("sweep", "b", "--supports", "s.npz", "--images", "i", "--out", "o")),
        ("ray", ("sweep", "b", "--supports", "s.npz", "--images", "i", "--out", "o")),
        ("cv2", (*VIDEO, "--output", "o.mp4")),
        ("cv2", (*VIDEO, "--output", "o", "--instances")),
        ("cv2", (*VIDEO, "--output", "o", "--steady")),
        ("pycocotools", (*VIDEO, "--output", "o", "--tracks", "t.jsonl")),
    ],
)
def test_a_package_that_is_missing_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...]
) -> None:
    """Some of them are needed at the end alone: nothing is read, or written, before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != module or None)
    done = CliRunner().invoke(command.app, [*words])
    assert isinstance(done.exception, ModuleNotFoundError), done.exception
    assert done.exception.name == module
    assert not list(tmp_path.iterdir())
