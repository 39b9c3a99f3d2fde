"""How much is tried: a little in every run of the tests, all of it with HSNET_RELIABILITY=full."""

from __future__ import annotations

import os


def amount(*, few: int, all_of_them: int) -> int:
    return all_of_them if os.environ.get("HSNET_RELIABILITY") == "full" else few
