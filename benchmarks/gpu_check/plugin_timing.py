"""Time the correlation kernel against the native sequence in PyTorch, with the floors beside.

Both are replayed as CUDA graphs, so that neither includes Python's overhead. The floors are
measured in the same run: cuBLAS' rate on a large product of the same type, and the rate of a large
copy.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hsnet_trt.benchmarks.gpu_check.plugin_cases import draw, op_inputs
from hsnet_trt.benchmarks.limits.plugin_blocks import square_mask
from hsnet_trt.files import replacing
from hsnet_trt.trt_plugins.driver import CorrelationKernels
from hsnet_trt.trt_plugins.plan import TILES, Launch, Plan
from hsnet_trt.trt_plugins.sizes import EPSILON, CorrelationSizes, row_length

# ResNet-50 at 400 x 400: layers, channels, side, support stride of the first convolution.
LEVELS = {"level 2": (4, 512, 50, 4), "level 3": (6, 1024, 25, 4), "level 4": (3, 2048, 13, 2)}
AREAS = (None, 0.2, 1.0, 0.05, 0.5)  # most important first; None: support that was never masked
SECONDS_OF_A_ROW = 3
REPLAYS = 20
ROUNDS = 7


def time_graph(torch: Any, work: Callable[[], Any]) -> float:
    """Seconds of one call of ``work``: the median over rounds of replayed graphs."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    times = []
    for _ in range(ROUNDS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / REPLAYS)
    return float(median(times[1:]))


def rates(torch: Any, dtype: Any) -> tuple[float, float]:
    """The card's rates: multiply-add FLOP/s of cuBLAS, bytes/s of a copy."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) * 0.01 for _ in range(2))
    c = torch.empty_like(a)
    flops = 2 * 8192**3 / time_graph(torch, lambda: torch.matmul(a, b, out=c))
    source = torch.zeros(2**28, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return flops, 2 * 2**28 / time_graph(torch, lambda: target.copy_(source))


def padded(torch: Any, tensor: Any) -> Any:
    """A copy with padded rows, as in the graphs: zeros after the positions."""
    positions = tensor.shape[-1]
    return torch.nn.functional.pad(tensor, (0, row_length(positions) - positions))


def native(torch: Any, query: Any, support: Any, sizes: CorrelationSizes) -> tuple[Any, Any]:
    """The op as PyTorch would run it: norm in FP32, batched product, ReLU, both permutes.

    Rows of query and support may be longer than the positions of ``sizes`` (see ``padded``): the
    padding is multiplied, too, but cut from the outputs.
    """
    raw = query.float()
    unit = (raw / (torch.linalg.vector_norm(raw, dim=2, keepdim=True) + EPSILON)).to(query.dtype)
    product = torch.matmul(unit.transpose(2, 3)[:, None], support[None]).flatten(0, 1)
    kept = torch.relu(product)[..., : sizes.query_positions, : sizes.support_positions]
    correlation = kept.unflatten(-1, (sizes.support_h, sizes.support_w))
    full = correlation.transpose(1, 2).contiguous()
    strided = correlation[..., :: sizes.stride, :: sizes.stride]
    return full, strided.permute(0, 3, 4, 1, 2).contiguous()


def time_padding(torch: Any, query: Any, support: Any, sizes: CorrelationSizes) -> dict[str, float]:
    """The effect of padded rows on the native sequence and on cuBLAS' product alone.

    Returns:
        Milliseconds: ``native_padded_ms``, ``product_ms``, ``product_padded_ms``.
    """
    times = {}
    for name, tensors in (
        ("", (query, support)),
        ("_padded", (padded(torch, query), padded(torch, support))),
    ):
        transposed, other = tensors[0].transpose(2, 3)[:, None], tensors[1][None]
        times[f"product{name}_ms"] = 1e3 * time_graph(
            torch, partial(torch.matmul, transposed, other)
        )
        if name:
            work = partial(native, torch, *tensors, sizes)
            times["native_padded_ms"] = 1e3 * time_graph(torch, work)
    return times


class Call:
    """The kernel on PyTorch's tensors, for one level, with all its memory."""

    def __init__(
        self, torch: Any, kernels: CorrelationKernels, inputs: Sequence[Any], sizes: Any
    ) -> None:
        shapes = [tuple(tensor.shape) for tensor in inputs]
        query = inputs[0]
        self._torch, self._kernels = torch, kernels
        self.plan = Plan.of(sizes, shapes, query.element_size())
        outputs = sizes.output_shapes(*shapes)
        self.full, self.pruned = (query.new_full(shape, float("nan")) for shape in outputs)
        self._inputs = inputs  # kept alive
        tensors = (*inputs, self.full, self.pruned)
        self._problem = self.plan.problem([tensor.data_ptr() for tensor in tensors])

    def run(self) -> None:
        """Launch the chosen form of the kernel on PyTorch's current stream."""
        self.start(self._kernels.choose(self.plan))

    def start(self, launch: Launch) -> None:
        """Launch a given form of the kernel."""
        stream = self._torch.cuda.current_stream().cuda_stream
        self._kernels.start(launch, self._problem, stream)


def time_level(
    torch: Any,
    kernels: CorrelationKernels,
    level: str,
    area: float | None,
    *,
    dtype: str,
    reached: tuple[float, float],
) -> dict[str, Any]:
    """One row of the table: milliseconds, floors, and the error against native in float64."""
    layers, channels, side, stride = LEVELS[level]
    sizes = CorrelationSizes(side, side, side, side, stride)
    keep = None if area is None else square_mask(sizes, area)
    arrays = draw(np.random.default_rng(0), (1, 1, layers, channels), sizes, keep)
    query, support = (torch.from_numpy(a.astype(dtype)).cuda() for a in arrays)
    packed = [torch.from_numpy(a).cuda() for a in op_inputs(*(a.astype(dtype) for a in arrays))]
    call = Call(torch, kernels, packed, sizes)
    call.run()
    judge = native(torch, query.double(), support.double(), sizes)
    error = max(
        float((found.double().view(-1) - wanted.view(-1)).abs().max())
        for found, wanted in zip((call.full, call.pruned), judge, strict=True)
    )
    columns = sizes.support_positions if keep is None else int(keep.sum())
    flops = 2 * layers * channels * sizes.query_positions * columns
    moved = sum(t.numel() * t.element_size() for t in (query, support, call.full, call.pruned))
    floors = {"flop": flops / reached[0] * 1e3, "byte": moved / reached[1] * 1e3}
    ours = time_graph(torch, call.run) * 1e3
    theirs = time_graph(torch, lambda: native(torch, query, support, sizes)) * 1e3
    # The other forms of the kernel, to see whether the right one was chosen.
    forms = {kernels.choose(call.plan).kernel: ours}
    for other in (call.plan.correlate(tiles) for tiles in TILES):
        if other.kernel not in forms:
            forms[f"(not used) {other.kernel}"] = (
                time_graph(torch, partial(call.start, other)) * 1e3
            )
    # Only without a mask, because none of these depends on it.
    padding = time_padding(torch, query, support, sizes) if area is None else {}
    if padding:
        padding["padding"] = theirs / padding["native_padded_ms"]
    return {
        "level": level,
        "area": "no mask" if area is None else f"{area:.0%}",
        "dtype": dtype,
        "plugin_ms": ours,
        "native_ms": theirs,
        "speedup": theirs / ours,
        "flop_floor_ms": floors["flop"],
        "byte_floor_ms": floors["byte"],
        "share_of_attainable": max(floors.values()) / ours,
        "forms_ms": forms,
        "largest_error": error,
        **padding,
    }


def time_all(
    fatbin: Path, seconds_left: Callable[[], float], keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Time every level, mask and type while time is left; FP16 first.

    Args:
        fatbin: the compiled kernels.
        seconds_left: of the budget.
        keep: called after each row with everything found so far.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.zeros(1, device="cuda")  # creates the context that the kernels are loaded into
    kernels = CorrelationKernels(fatbin)
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "rates": {},
        "rows": [],
        "left_out": [],
    }
    for dtype in ("float16", "float32"):
        reached = rates(torch, getattr(torch, dtype))
        found["rates"][dtype] = {"cublas_flops": reached[0], "copy_bytes_per_s": reached[1]}
        for area, level in itertools.product(AREAS, LEVELS):
            if seconds_left() < SECONDS_OF_A_ROW:
                found["left_out"].append(f"{dtype} {level} {area}")
                continue
            row = time_level(torch, kernels, level, area, dtype=dtype, reached=reached)
            found["rows"].append(row)
            keep(found)
    keep(found)
    return found


def _main(fatbin: Path, kept: Path, seconds: float) -> None:
    end = time.monotonic() + seconds

    def keep(found: dict[str, Any]) -> None:
        with replacing(kept) as scratch:
            scratch.write_text(json.dumps(found, indent=2) + "\n")

    time_all(fatbin, lambda: end - time.monotonic(), keep)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
