"""The user's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hsnet_trt.runtime.device.kernel_cache import cache_folder


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
