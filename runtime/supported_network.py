"""A network with the supports that it has now: all of a segmenter but segmenting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO

from hsnet_trt.runtime.current_supports import CurrentSupports
from hsnet_trt.runtime.matching.support_set import SupportSet, check_name
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.masks import MaskSource
from hsnet_trt.runtime.pictures.sources import ImageSource


class SupportedNetwork:
    """What the network is and what it was shown; `FewShotSegmenter` is one that segments, too.

    Supports are changed by one thread while others use them: a call sees them as they were when it
    began.
    """

    def __init__(self, network: Network) -> None:
        """Start without a class."""
        self._network = network
        self._current = CurrentSupports(network.pipeline.arrange)

    @property
    def backend(self) -> str:
        """What runs the network: tensorrt, tensorrt_rtx, onnxruntime_cuda or onnxruntime."""
        return self._network.runner.backend

    @property
    def backbone(self) -> str:
        """The network's backbone: vgg16, resnet18, resnet50, resnet101, efficientnet_lite0 or
        mobilenet_v2.
        """
        return self._network.bundle.manifest.model.backbone

    @property
    def trained(self) -> bool:
        """False where the weights are random, so that the masks mean nothing."""
        return self._network.bundle.manifest.model.trained

    @property
    def backend_reason(self) -> str:
        """In words, why it is that backend."""
        return self._network.reason

    @property
    def device(self) -> str:
        """What the backend runs on, in words."""
        return self._network.runner.device

    @property
    def precision(self) -> str:
        """The network's precision: fp32, fp16 or int8."""
        return self._network.runner.precision

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return self._network.size

    @property
    def resize(self) -> str:
        """How photographs are brought to that size: "stretch" or "letterbox"."""
        return self._network.preprocessing.resize

    @property
    def refine(self) -> bool:
        """Whether the masks' edges follow the picture's, by its colours and a guided filter."""
        return self._network.refine

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have supports, in the order they were first set."""
        return tuple(self._current.supports.classes)

    def set_support(
        self,
        name: str,
        images: ImageSource | Iterable[ImageSource],
        masks: MaskSource | Iterable[MaskSource],
        *,
        color: str = "rgb",
        crop: float | None = None,
    ) -> None:
        """Show what a class looks like. The shots are encoded once; other classes stay.

        A class of that name is replaced. More shots than the engine's profile are matched in
        chunks.

        Args:
            name: the class.
            images: K images: paths, file objects, PIL images, or arrays uint8 [H,W,3]; one image
                may stand alone. Each may have its own size.
            masks: K masks of the object, each of the size of its image (after EXIF rotation):
                paths, file objects, PIL images, or arrays (of any library, or nested lists) [H,W]
                of bool, 0/1, 0/255, or floats in [0,1]; one mask may stand alone.
            color: as for `segment`.
            crop: crop each image about its object, to so many times the sides of the object's box
                (1 or more), never beyond the image. Best for steady streams, which look closely at
                what they follow, with 1.5; None for the whole image.

        Raises:
            InputError: an unreadable image or mask, a mask that is empty or not of its image's
                size, another number of masks than of images, none at all, more than 255 classes,
                another `color`, or a `crop` below 1.
            BackendError: the backend failed.

        Warns:
            HSNetWarning: a mask covers its whole image, or is so small that it vanishes at a
                feature resolution.
        """
        with self._current.use("set_support"):
            name = check_name(name)
            encoded = self._network.encode(name, images, masks, color, crop)
            self._current.change(lambda supports: supports.with_class(name, encoded))

    def remove_support(self, name: str) -> None:
        """Forget a class.

        Raises:
            InputError: there is no class of that name.
        """
        with self._current.use("remove_support"):
            self._current.change(lambda supports: supports.without(name))

    def clear(self) -> None:
        """Forget all classes."""
        with self._current.use("clear"):
            self._current.change(lambda _: SupportSet())

    def save_supports(self, path: str | os.PathLike[str]) -> None:
        """Write all classes to a `.npz` for `load_supports`, here or on another machine.

        The file belongs to these weights, this size and this resize policy; precision and backend
        may differ.

        Raises:
            InputError: no support was set, or the file cannot be written.
        """
        with self._current.use("save_supports"):
            supports = self._current.snapshot("save_supports").supports
            supports.save(path, self._network.origin)

    def load_supports(self, path: str | os.PathLike[str] | IO[bytes]) -> None:
        """Add the classes of a file that `save_supports` wrote, replacing those of the same name.

        Args:
            path: the file, or a binary stream of it.

        Raises:
            InputError: not such a file, damaged, or made by another model, at another size or with
                another preprocessing; then nothing changes.
        """
        with self._current.use("load_supports"):
            loaded = SupportSet.load(path, self._network.origin)
            self._current.change(
                lambda supports: SupportSet({**supports.classes, **loaded.classes})
            )
