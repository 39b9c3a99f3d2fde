"""ONNX Runtime's threads, and its largest batches: by a CPU's caches, or by a GPU's memory."""

from __future__ import annotations

import os

from hsnet_trt.runtime.bundle.manifest import GraphFile
from hsnet_trt.runtime.device.machine import Gpu
from hsnet_trt.runtime.matching.runner import Limits

# Estimated activations of one call, in bytes. Larger ones do not stay in the processor's caches:
# shots at 400 x 400 are faster one by one; those at 256 x 256 are not, and share calls.
MEMORY_BUDGET = 300_000_000
_MOST = 16
_MOST_QUERIES = 4  # on a GPU; on a CPU a second query in a call gains nothing
_MOST_ELEMENTS = 2**31 - 1  # of a tensor on a GPU, whose kernels may count with 32 bits


def threads() -> int:
    """Threads of a session on the CPU: `OMP_NUM_THREADS` if set, else 0 (one for each core)."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else 0


def cpu_limits(graphs: dict[str, GraphFile], budget: int | None = None) -> Limits:
    """The largest batches on a CPU whose activations stay within a budget.

    Args:
        graphs: features, support and match.
        budget: bytes; by default `MEMORY_BUDGET`.
    """
    budget = MEMORY_BUDGET if budget is None else budget
    return _limits(graphs, budget, most_queries=1, most_elements=None)


def gpu_limits(graphs: dict[str, GraphFile], gpu: Gpu) -> Limits:
    """The largest batches on a GPU.

    A call's estimated activations take at most an eighth of the GPU's memory: each session keeps
    its peak allocation, weights and cuDNN's workspace come on top, and others use the GPU too. The
    number of supports is maximised for one query first, then the number of queries.

    Args:
        graphs: features, support and match.
        gpu: the GPU.
    """
    return _limits(graphs, gpu.own_memory_bytes // 8, _MOST_QUERIES, _MOST_ELEMENTS)


def _limits(
    graphs: dict[str, GraphFile], budget: int, most_queries: int, most_elements: int | None
) -> Limits:
    def fits(graph: str, queries: int, supports: int) -> bool:
        entry = graphs[graph]
        if most_elements is not None and entry.largest_tensor.at(queries, supports) > most_elements:
            return False
        return entry.activation_bytes.at(queries, supports) <= budget

    def most(graph: str, limit: int = _MOST, *, queries: int | None, supports: int | None) -> int:
        """The largest n that fits as the argument that is None, at least 1."""
        numbers = range(1, limit + 1)
        return max(
            (n for n in numbers if fits(graph, queries or n, supports or n)),
            default=1,
        )

    supports = most("match", queries=1, supports=None)
    return Limits(
        images=most("features", queries=None, supports=1),
        shots=most("support", queries=1, supports=None),
        queries=most("match", most_queries, queries=None, supports=supports),
        supports=supports,
    )
