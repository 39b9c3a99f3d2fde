"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.places import ROOT

from hsnet_trt.files import cache_folder, replacing


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as scratch:
        assert scratch.suffix == ".json" and scratch.parent == tmp_path
        scratch.write_text("half")
        1 / 0  # noqa: B018
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path, meet = tmp_path / "a.json", threading.Barrier(2)

    def write(content: str) -> None:
        with replacing(path) as scratch:
            scratch.write_text(content[:1])
            meet.wait(20)
            scratch.write_text(content)
            meet.wait(20)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("1" * 10_000, "2" * 20_000)))
    assert path.read_text() in ("1" * 10_000, "2" * 20_000)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_nobody_writes_to_a_name_that_is_always_the_same() -> None:
    for path in ROOT.glob("*/**/*.py"):
        stage = path.relative_to(ROOT).parts[0]
        if not stage.startswith(".") and stage not in ("tests", "build", "hsnet_trt"):
            text = path.read_text()
            assert not re.search(r"\.part(ial)?\b[\w.]*\"", text), path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' users have a home")
def test_a_user_without_name_and_home_has_a_cache_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `docker run --user 12345`."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = cache_folder()
    assert folder.parent == tmp_path and folder.name.endswith(f"-{os.getuid()}")
