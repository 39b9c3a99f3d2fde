"""Tests of this folder share their inputs: its modules are found by name."""

from __future__ import annotations
