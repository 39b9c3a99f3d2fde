"""Optimisation profiles: the range of each dynamic dimension, and whether it fits a machine.

A profile's largest values decide how much memory the engine reserves, whether used or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hsnet_trt.errors import BuildError, InputError
from hsnet_trt.runtime.bundle import describe
from hsnet_trt.runtime.bundle.manifest import GraphFile, ProfileRange

# TensorRT indexes tensors with 32-bit integers; the builder accepts more, but the result is wrong.
TENSOR_LIMIT = 2**31
_LARGEST_BATCH = 4096  # limit of the search for the largest profile that fits


@dataclass(frozen=True)
class Weighed:
    """A graph and the bytes of its weights, which an engine keeps on the device."""

    graph: GraphFile
    weight_bytes: int


def check_range(span: ProfileRange, what: str) -> ProfileRange:
    """Return the range of `what` ("queries" or "supports") if it is valid.

    Raises:
        InputError: not 1 <= least <= expected <= most.
    """
    if not 1 <= span.least <= span.expected <= span.most:
        raise not_a_range(_text(span), what)
    return span


def not_a_range(found: str, what: str) -> InputError:
    """The error for a range of queries or supports that is not valid."""
    return InputError(
        f"the range of {what} is not valid",
        expected="min:opt:max with 1 <= min <= opt <= max, as in 1:1:4",
        found=repr(found),
        fix=f"give --{what} three rising numbers, or one for a fixed number of {what}",
    )


def profile_of(
    graph: GraphFile, queries: ProfileRange, supports: ProfileRange
) -> dict[str, ProfileRange]:
    """The profile of one graph: a range for each of its dynamic dimensions (N, B or S).

    `features` and `support` take up to as many images as `match` takes queries. There may be more
    supports than that: they are encoded once, in chunks.

    Raises:
        BuildError: the graph has a dynamic dimension of another name.
    """
    encoded = ProfileRange(1, queries.expected, queries.most)
    matched = encoded if graph.variant.graph == "support" else supports
    known = {"B": queries, "S": matched, "N": encoded}
    named = {d for tensor in graph.inputs for d in tensor.shape if isinstance(d, str)}
    if not named <= known.keys():
        raise BuildError(
            f"{describe(graph)} has a dynamic dimension that has no range",
            expected=f"dimensions named {', '.join(sorted(known))}",
            found=", ".join(sorted(named)),
            fix="export the bundle again with this version",
        )
    return {name: known[name] for name in sorted(named)}


def largest(profile: dict[str, ProfileRange]) -> tuple[int, int]:
    """The most queries and supports of a profile, as `Growth.at` takes them."""
    queries = profile.get("B") or profile.get("N")
    supports = profile.get("S")
    return queries.most if queries else 1, supports.most if supports else 1


def memory_at(graphs: Iterable[Weighed], queries: ProfileRange, supports: ProfileRange) -> int:
    """Bytes that the engines of one size need together: peak activations and weights."""
    return sum(
        g.graph.activation_bytes.at(*largest(profile_of(g.graph, queries, supports)))
        + g.weight_bytes
        for g in graphs
    )


def check_profiles(
    graphs: Sequence[Weighed],
    queries: ProfileRange,
    supports: ProfileRange,
    memory_bytes: int | None,
    where: str,
    scale: float = 1.0,
) -> None:
    """Refuse a profile that TensorRT would compute wrongly, or that the target cannot hold.

    Args:
        graphs: the graphs of one size that run together.
        queries: the range of B.
        supports: the range of S.
        memory_bytes: memory of the target; None if unknown, which skips the check.
        where: the target's name, for the message.
        scale: ratio of the memory that the builder reported to the estimate; 1 before the build.

    Raises:
        BuildError: a tensor reaches 2^31 elements, or the memory does not suffice; the message
            names the largest profiles that fit.
    """

    def oversized(q: ProfileRange, s: ProfileRange) -> GraphFile | None:
        for g in graphs:
            if g.graph.largest_tensor.at(*largest(profile_of(g.graph, q, s))) >= TENSOR_LIMIT:
                return g.graph
        return None

    def fits(q: ProfileRange, s: ProfileRange) -> bool:
        enough = memory_bytes is None or scale * memory_at(graphs, q, s) <= memory_bytes
        return enough and oversized(q, s) is None

    asked = f"{queries.most} queries x {supports.most} supports"
    graph = oversized(queries, supports)
    if graph is not None:
        elements = graph.largest_tensor.at(*largest(profile_of(graph, queries, supports)))
        raise BuildError(
            f"the profile makes a tensor that TensorRT cannot index ({describe(graph)})",
            expected=f"fewer than 2^31 elements ({TENSOR_LIMIT:,})",
            found=f"{elements:,} elements at {asked}",
            fix=_suggest(fits, queries, supports),
        )
    if memory_bytes is not None and not fits(queries, supports):
        needed = int(scale * memory_at(graphs, queries, supports))
        raise BuildError(
            f"the profile does not fit {where}",
            expected=f"at most {_gib(memory_bytes)}",
            found=f"about {_gib(needed)} of activations and weights at {asked}",
            fix=_suggest(fits, queries, supports),
        )


def _suggest(
    fits: Callable[[ProfileRange, ProfileRange], bool],
    queries: ProfileRange,
    supports: ProfileRange,
) -> str:
    """The largest profiles that fit, with fewer supports or with fewer queries, as a message."""
    choices = []
    count = _most(lambda n: fits(queries, _capped(supports, n)), supports.most)
    if count:
        choices.append(f"--queries {_text(queries)} --supports {_text(_capped(supports, count))}")
    count = _most(lambda n: fits(_capped(queries, n), supports), queries.most)
    if count:
        choices.append(f"--queries {_text(_capped(queries, count))} --supports {_text(supports)}")
    if not choices:
        one = ProfileRange(1, 1, 1)
        if not fits(one, one):
            return "not even one query and one support fit: export a smaller --size, or fp16"
        count = _most(lambda n: fits(one, _capped(supports, n)), supports.most)
        choices.append(f"--queries 1:1:1 --supports {_text(_capped(supports, count))}")
    fitting = " or ".join(choices)
    return f"the largest that fits is {fitting}; the runtime matches more supports in chunks"


def _most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest n in 1..limit that fits, 0 if none; `fits` must be true up to some n only."""
    low, high = 0, min(limit, _LARGEST_BATCH)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _capped(span: ProfileRange, most: int) -> ProfileRange:
    return ProfileRange(min(span.least, most), min(span.expected, most), most)


def _text(span: ProfileRange) -> str:
    return f"{span.least}:{span.expected}:{span.most}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
