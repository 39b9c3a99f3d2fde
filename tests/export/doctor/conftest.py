"""A made-up machine for the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fakes.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
