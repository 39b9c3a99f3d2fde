"""Whether kernels should use the host's memory directly, on a GPU that shares it with the CPU."""

from __future__ import annotations

import logging
from typing import Any

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.frames.frame_drawing import FrameDrawing
from hsnet_trt.runtime.frames.frame_network import FrameNetwork
from hsnet_trt.runtime.frames.frame_slot import Slot

_log = logging.getLogger("hsnet_trt.tensorrt")


def mapping_pays(cuda: Cuda, network: FrameNetwork, drawing: FrameDrawing, stream: Any) -> bool:
    """Whether mapped memory is faster than copies, measured on a frame of 1280 x 720.

    Args:
        cuda: the driver; its context must be current.
        network: whose preprocessing reads the pixels.
        drawing: whose kernel writes the mask.
        stream: where both queue their work.
    """
    size = (720, 1280)
    placement = network.place(size)
    best = {}
    for mapped in (False, True):
        slot = Slot(cuda, mapped=mapped)
        slot.fit(size, 1, 1, masks=False, scores=False)
        slot.pitch = 3 * size[1]
        network.prepare(slot, placement)  # uploads the tables before the clock starts
        times = []
        for _ in range(5):
            cuda.record(slot.events["begun"], stream)
            slot.pixels.upload(0, 3 * size[0] * size[1], stream)
            network.prepare(slot, placement)
            # Stands for drawing a mask: the same kernel writes as many bytes.
            drawing.settle_nothing(slot, size)
            slot.download(("labels",), stream)
            cuda.record(slot.events["done"], stream)
            cuda.synchronise(slot.events["done"])
            times.append(cuda.elapsed_ms(slot.events["begun"], slot.events["done"]))
        slot.free()
        best[mapped] = min(times)
    _log.info("a frame's pixels and mask: %.2f ms copied, %.2f ms mapped", best[False], best[True])
    return best[True] < best[False]
