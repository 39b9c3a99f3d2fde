"""A bundle on a disk that is full: the older one stays, and the error says where it happened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers.bundles.tiny import make_bundle

from hsnet_trt.errors import BundleError
from hsnet_trt.runtime.bundle import Bundle, BundleWriter, check_place
from hsnet_trt.runtime.bundle.variants import add_variants


def test_a_full_disk_leaves_the_older_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_bundle(tmp_path / "bundle")
    before = (path / "bundle.json").read_bytes()

    def full(self: BundleWriter, name: str, content: object) -> str:
        (self.path / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BundleWriter, "add", full)
    with pytest.raises(BundleError, match="cannot be written to") as caught:
        add_variants(Bundle.open(path), path, [], present_from=0.5)
    assert caught.value.found == "No space left on device"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]
    assert (path / "bundle.json").read_bytes() == before


@pytest.mark.parametrize("place", ["new", "new/deeper/bundle", "bundle", "link"])
def test_a_place_for_a_bundle(tmp_path: Path, place: str) -> None:
    make_bundle(tmp_path / "bundle")
    (tmp_path / "link").symlink_to("bundle")
    check_place(tmp_path / place)
    assert {entry.name for entry in tmp_path.iterdir()} == {"bundle", "link"}


def test_no_place_for_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place, says in (("file", "in the way"), ("", "in the way"), ("file/x/y", "is a file")):
        with pytest.raises(BundleError) as caught:
            check_place(tmp_path / place)
        assert says in str(caught.value)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BundleError, match="cannot be written") as caught:
        check_place(tmp_path / "new" / "bundle")
    assert caught.value.found == f"no permission to write in {tmp_path}"
