"""The frame kernels' lookup tables on the GPU, for the frame sizes that were used last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.frame_tables import Tables, make_tables
from hsnet_trt.runtime.pictures.preprocess import Placement

_MOST = 32  # sizes of photographs whose tables are kept


class TableCache:
    """Tables by frame size; the context must be current for every call."""

    def __init__(self, cuda: Cuda, decoder: tuple[int, int], stream: Any) -> None:
        """Set up.

        Args:
            cuda: the driver.
            decoder: height and width of the logits.
            stream: where tables are uploaded, and whose work may still read older ones.
        """
        self._cuda, self._decoder, self._stream = cuda, decoder, stream
        self._kept: OrderedDict[tuple[int, int], tuple[Block, Tables]] = OrderedDict()

    def of(self, placement: Placement) -> tuple[Block, Tables]:
        """The tables of one frame size: where they are on the GPU, and the same on the host."""
        kept = self._kept.get(placement.source)
        if kept is not None:
            self._kept.move_to_end(placement.source)
            return kept
        if len(self._kept) >= _MOST:
            self._cuda.synchronise(self._stream)
            _, (oldest, _) = self._kept.popitem(last=False)
            oldest.free()
        tables = make_tables(placement, self._decoder)
        arrays = {name: np.ascontiguousarray(array) for name, array in vars(tables).items()}
        block = Block(self._cuda, {name: array.nbytes for name, array in arrays.items()})
        for name, array in arrays.items():
            self._cuda.upload(block.at(name), array, self._stream)
        self._cuda.synchronise(self._stream)
        self._kept[placement.source] = (block, tables)
        return block, tables

    def free(self) -> None:
        """Free all of them; nothing may still read one."""
        for block, _ in self._kept.values():
            block.free()
        self._kept.clear()
