"""Ranges, sizes and memory as users write them, and profiles that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.export.engines.profiles import (
    TENSOR_LIMIT,
    Weighed,
    check_profiles,
    memory_at,
    parse_bytes,
    parse_range,
    parse_size,
    profile_of,
)
from hsnet_trt.runtime.bundle.manifest import GraphFile, Growth, ProfileRange, TensorSpec, Variant


def match_graph(elements: Growth, memory: Growth, dimensions: str = "BS") -> GraphFile:
    inputs = tuple(TensorSpec(name, "float32", (name, 4)) for name in dimensions)
    variant = Variant("match", (64, 64), "fp32", "conv2d", "native")
    return GraphFile(variant, "graphs/match.onnx", 18, inputs, (), elements, memory)


@given(st.text(max_size=12) | st.from_regex(r"-?[0-9]{1,3}(:-?[0-9]{1,3}){0,3}", fullmatch=True))
def test_only_rising_ranges_are_read(text: str) -> None:
    numbers = [int(n) for n in text.split(":")] if _all_digits(text) else []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) == 3 and 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        assert parse_range(text, "queries") == ProfileRange(*numbers)
    else:
        with pytest.raises(InputError):
            parse_range(text, "queries")


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


def test_as_many_images_are_encoded_at_once_as_there_may_be_queries() -> None:
    """From one on: the last chunk of supports may have any length."""
    graph = match_graph(Growth(), Growth(), "N")
    assert profile_of(graph, ProfileRange(2, 3, 4), ProfileRange(1, 5, 9)) == {
        "N": ProfileRange(1, 3, 4)
    }
    with pytest.raises(BuildError, match="no range"):
        profile_of(match_graph(Growth(), Growth(), "BK"), *[ProfileRange(1, 1, 1)] * 2)


@given(
    queries=st.integers(1, 12),
    supports=st.integers(1, 12),
    pair=st.integers(1, 40),
    query=st.integers(0, 40),
    support=st.integers(0, 40),
    memory=st.integers(1, 3000),
)
def test_the_profile_named_is_the_largest_that_fits(
    *, queries: int, supports: int, pair: int, query: int, support: int, memory: int
) -> None:
    """Judged by trying every profile up to the one asked for."""
    cost = Growth(7, query, support, pair)
    graphs = [Weighed(match_graph(Growth(), cost), weight_bytes=3)]

    def needs(b: int, s: int) -> int:
        return 10 + query * b + support * s + pair * b * s

    asked = ProfileRange(1, 1, queries), ProfileRange(1, 1, supports)
    assert memory_at(graphs, *asked) == needs(queries, supports)
    if needs(queries, supports) <= memory:
        check_profiles(graphs, *asked, memory, "a card")
        return
    with pytest.raises(BuildError) as caught:
        check_profiles(graphs, *asked, memory, "a card")
    fix = str(caught.value.fix)
    fewer_supports = [s for s in range(1, supports + 1) if needs(queries, s) <= memory]
    fewer_queries = [b for b in range(1, queries + 1) if needs(b, supports) <= memory]
    if fewer_supports:
        assert f"--queries 1:1:{queries} --supports 1:1:{max(fewer_supports)}" in fix
    if fewer_queries:
        assert f"--queries 1:1:{max(fewer_queries)} --supports 1:1:{supports}" in fix
    if not fewer_supports and not fewer_queries:
        alone = [s for s in range(1, supports + 1) if needs(1, s) <= memory]
        expected = f"--queries 1:1:1 --supports 1:1:{max(alone)}" if alone else "not even one"
        assert expected in fix


def test_a_tensor_of_2_to_the_31_elements_is_refused_and_one_less_is_not() -> None:
    ranges = ProfileRange(1, 1, 1), ProfileRange(1, 1, 1)
    below = Weighed(match_graph(Growth(TENSOR_LIMIT - 1), Growth()), 0)
    check_profiles([below], *ranges, None, "a card")
    reached = Weighed(match_graph(Growth(TENSOR_LIMIT), Growth()), 0)
    with pytest.raises(BuildError, match="cannot index"):
        check_profiles([reached], *ranges, None, "a card")
