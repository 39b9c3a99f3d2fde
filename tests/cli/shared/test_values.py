"""Ranges, sizes and memory as users write them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt.cli.shared.values import command_line, parse_bytes, parse_range, parse_size
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.bundle.manifest import ProfileRange


@given(st.text(max_size=12) | st.from_regex(r"-?[0-9]{1,3}(:-?[0-9]{1,3}){0,3}", fullmatch=True))
def test_only_rising_ranges_are_read(text: str) -> None:
    numbers = [int(n) for n in text.split(":")] if _all_digits(text) else []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) == 3 and 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        assert parse_range(text, "queries") == ProfileRange(*numbers)
    else:
        with pytest.raises(InputError):
            parse_range(text, "queries")


def test_a_command_with_a_name_that_is_not_utf8_can_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["hsnet-trt", "verify", os.fsdecode(b"b\xfcndel"), "gr\u00f6\u00dfe"]
    )
    assert command_line().encode().decode() == r"hsnet-trt verify 'b\xfcndel' 'größe'"


def _all_digits(text: str) -> bool:
    return all(p.strip() and all(c in "0123456789" for c in p.strip()) for p in text.split(":"))


@pytest.mark.parametrize(
    ("text", "size"), [("400", (400, 400)), ("480x640", (480, 640)), ("64X96", (64, 96))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@given(st.text(max_size=8))
def test_other_sizes_are_refused(text: str) -> None:
    parts = text.lower().split("x")
    if len(parts) <= 2 and all(p.isascii() and p.isdigit() and int(p) for p in parts):
        assert parse_size(text) == (int(parts[0]), int(parts[-1]))
    else:
        with pytest.raises(InputError):
            parse_size(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GiB", 2**31), ("512 MiB", 2**29), ("1.5g", 3 * 2**29), ("1024", 1024), ("1kib", 1024)],
)
def test_memory(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "GiB", "two", "1e400GiB", "nan", "5 apples"])
def test_other_memory_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_bytes(text)
