"""Profiles of graphs, and those that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsnet_trt.errors import BuildError
from hsnet_trt.export.engines.profiles import (
    TENSOR_LIMIT,
    Weighed,
    check_profiles,
    memory_at,
    profile_of,
)
from hsnet_trt.runtime.bundle.manifest import GraphFile, Growth, ProfileRange, TensorSpec, Variant

GRIDS = ((1, 1), (1, 1), (1, 1))


def match_graph(elements: Growth, memory: Growth, dimensions: str = "BS") -> GraphFile:
    inputs = tuple(TensorSpec(name, "float32", (name, 4)) for name in dimensions)
    variant = Variant("match", (64, 64), "fp32", "conv2d", "native")
    return GraphFile(variant, "graphs/match.onnx", 18, inputs, (), elements, memory, GRIDS)


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
