"""How many pictures and shots one call takes, and how many threads a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest
from helpers.bundles.tiny_graphs import SIZE, make_graph
from helpers.fakes.onnxruntime import GPU

from hsnet_trt.calibration import network
from hsnet_trt.export.graphs import parity
from hsnet_trt.runtime.bundle.manifest import Growth
from hsnet_trt.runtime.matching.runner import Limits
from hsnet_trt.runtime.ort import runner
from hsnet_trt.runtime.ort.limits import gpu_limits


@pytest.mark.parametrize(
    ("gigabytes", "integrated", "expected"),
    [
        (80, False, Limits(images=16, shots=16, queries=4, supports=16)),
        (8, False, Limits(images=10, shots=16, queries=1, supports=10)),
        (8, True, Limits(images=5, shots=16, queries=1, supports=5)),
        (0, False, Limits(images=1, shots=1, queries=1, supports=1)),
    ],
)
def test_a_call_takes_an_eighth_of_the_memory(
    gigabytes: int, integrated: bool, expected: Limits
) -> None:
    """0.1 GB an image and a pair; `support` is small."""
    graphs = {graph: make_graph(graph, SIZE)[1] for graph in ("features", "support", "match")}
    graphs["support"] = dataclasses.replace(
        graphs["support"], activation_bytes=Growth(constant=1000, per_support=1000)
    )
    gpu = dataclasses.replace(GPU, memory_bytes=gigabytes * 10**9, integrated=integrated)
    assert gpu_limits(graphs, gpu) == expected


def test_no_tensor_has_more_elements_than_32_bits_count() -> None:
    graphs = {graph: make_graph(graph, SIZE)[1] for graph in ("features", "support", "match")}
    graphs["match"] = dataclasses.replace(
        graphs["match"], largest_tensor=Growth(per_pair=2**30 - 1), activation_bytes=Growth()
    )
    limits = gpu_limits(graphs, GPU)
    assert (limits.queries, limits.supports) == (1, 2)


def runners(content: bytes) -> Any:
    options = runner._session_options(onnxruntime)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("opened", [runners, network._session, parity.session])
@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("many", 0), (None, 0)])
def test_threads_are_as_many_as_openmp_is_asked_for(
    opened: Callable[[bytes], Any],
    asked: str | None,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise ONNX Runtime takes one for each core (0)."""
    sessions = []

    class Noted(onnxruntime.InferenceSession):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            sessions.append(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Noted)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    opened(make_graph("support", SIZE)[0])
    assert [s.get_session_options().intra_op_num_threads for s in sessions] == [threads]
