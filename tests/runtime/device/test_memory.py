"""What fits into the memory that a GPU has left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from helpers.bundles.tiny_graphs import SIZE, make_graph

from hsnet_trt.runtime.bundle.manifest import Growth
from hsnet_trt.runtime.device import memory as arena
from hsnet_trt.runtime.matching.runner import Limits


def test_memory_that_suffices_for_a_smaller_profile_names_it(tmp_path: Path) -> None:
    match = make_graph("match", SIZE)[1]
    growth = Growth(constant=10, per_query=0, per_support=0, per_pair=10)
    entry = dataclasses.replace(match, activation_bytes=growth)
    most = Limits(images=4, shots=4, queries=2, supports=10)  # 210 in all
    assert arena._smaller(entry, most, 0.5) == 9
    assert arena._smaller(entry, most, 0.1) == 1
    assert arena._smaller(entry, most, 0.05) is None
