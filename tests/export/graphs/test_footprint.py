"""The memory that a graph is said to take, against what ONNX Runtime allocates."""

import numpy as np
import onnx
import onnxruntime
import pytest

from hsnet_trt.export.graphs.footprint import footprint

pytestmark = pytest.mark.xdist_group("real bundle")  # exported once, by one worker


def test_footprint_counts_what_a_run_allocates(graphs):
    """Against the arrays that ONNX Runtime really makes, for each node of the graph."""
    graph = graphs["match_64x96_fp32_conv2d"]
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    names = [output for node in graph.graph.node for output in node.output]
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )
    session = onnxruntime.InferenceSession(
        opened.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest, peak = footprint(graph)
    for queries, supports in ((1, 1), (2, 3)):
        rng = np.random.default_rng(0)
        inputs = {
            value.name: rng.random(
                [
                    d.dim_value or {"B": queries, "S": supports}[d.dim_param]
                    for d in value.type.tensor_type.shape.dim
                ],
                dtype=np.float32,
            )
            for value in graph.graph.input
        }
        arrays = session.run(None, inputs)
        assert largest.at(queries, supports) == max(a.size for a in arrays)
        assert (
            max(a.nbytes for a in arrays)
            < peak.at(queries, supports)
            < sum(a.nbytes for a in arrays)
        )
