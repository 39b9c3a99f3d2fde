"""A scene of flat moving layers: its frames and their true masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hsnet_trt.data.drawn.camera import Exposure, expose
from hsnet_trt.data.drawn.motion import Matrices
from hsnet_trt.data.drawn.render import Cutout, Floats
from hsnet_trt.data.episodes.episode import Image, Mask
from hsnet_trt.data.episodes.video_metrics import Origin


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame and its ground truth.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        truth: bool [H, W], True where the object is visible.
        origin: int16 [H, W, 2]: (row, column) in the previous frame of the surface point that each
            pixel shows; -1 if it was outside or hidden, and in the first frame.
    """

    image: Image
    truth: Mask
    origin: Origin

    @property
    def visible(self) -> bool:
        """Whether any pixel shows the object."""
        return bool(self.truth.any())


@dataclass(frozen=True, eq=False)
class Layer:
    """A flat picture and its homography in each frame; `wanted`: it is the object."""

    cutout: Cutout
    matrices: Matrices
    wanted: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers from back to front (the first extends without end), exposures and grain by frame."""

    size: tuple[int, int]
    layers: tuple[Layer, ...]
    exposures: tuple[Exposure, ...]
    grain: npt.NDArray[np.int64]  # [T, 2]

    def play(self) -> Iterator[VideoFrame]:
        before = None
        for frame, exposure in enumerate(self.exposures):
            canvas, top = self._draw(frame)
            row, column = self.grain[frame]
            image = expose(canvas, exposure, (int(row), int(column)))
            truth = np.zeros(self.size, np.bool_)
            for number, layer in enumerate(self.layers):
                if layer.wanted:
                    truth |= top == number
            yield VideoFrame(image, truth, self._origin(frame, top, before))
            before = top

    def _draw(self, frame: int) -> tuple[Floats, npt.NDArray[np.uint8]]:
        """(float32 [H, W, 3], uint8 [H, W]: index of the layer that each pixel shows)."""
        shape = (self.size[1], self.size[0])
        ground = self.layers[0]
        canvas = np.asarray(
            cv2.warpPerspective(
                ground.cutout.colour,
                ground.matrices[frame],
                shape,
                borderMode=cv2.BORDER_REFLECT_101,
            ),
            np.float32,
        )
        top = np.zeros(self.size, np.uint8)
        for number, layer in enumerate(self.layers[1:], start=1):
            matrix = layer.matrices[frame]
            alpha = cv2.warpPerspective(layer.cutout.alpha, matrix, shape)
            if not alpha.any():
                continue
            colour = cv2.warpPerspective(
                layer.cutout.colour, matrix, shape, borderMode=cv2.BORDER_REPLICATE
            )
            over = cv2.multiply(cv2.subtract(colour, canvas), cv2.merge([alpha] * 3))
            canvas = np.asarray(cv2.add(canvas, over), np.float32)
            top[alpha > 0.5] = number
        return canvas, top

    def _origin(
        self, frame: int, top: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8] | None
    ) -> Origin:
        origin = np.full((*self.size, 2), -1, np.int16)
        if before is None:
            return origin
        for number in np.unique(top):
            matrices = self.layers[number].matrices
            back = matrices[frame - 1] @ np.linalg.inv(matrices[frame])
            rows, columns = np.nonzero(top == number)
            x, y, w = back @ np.stack([columns, rows, np.ones_like(rows)])
            was_row, was_column = np.rint(y / w).astype(int), np.rint(x / w).astype(int)
            inside = (was_row >= 0) & (was_row < self.size[0])
            inside &= (was_column >= 0) & (was_column < self.size[1])
            rows, columns = rows[inside], columns[inside]
            was_row, was_column = was_row[inside], was_column[inside]
            same = before[was_row, was_column] == number
            origin[rows[same], columns[same]] = np.stack([was_row, was_column], axis=1)[same]
        return origin
