"""The part of a segmenter that holds its network and its supports."""

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
    """A network and its current supports; `FewShotSegmenter` adds segmenting.

    One thread may change the supports while others use them: each call works with the supports as
    they were when it began.
    """

    def __init__(self, network: Network) -> None:
        """Start without supports."""
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
        """False if the weights are random: the masks then mean nothing."""
        return self._network.bundle.manifest.model.trained

    @property
    def backend_reason(self) -> str:
        """Why it is that backend, and why the better ones do not work here, as a sentence."""
        return self._network.reason

    @property
    def device(self) -> str:
        """The hardware that the backend runs on, for people to read."""
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
        """How photographs are brought to `size`: "stretch" or "letterbox"."""
        return self._network.preprocessing.resize

    @property
    def refine(self) -> bool:
        """Whether masks and scores are refined, so that their edges follow the picture's."""
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
        """Show what a class looks like. The shots are encoded here, once.

        Replaces the class of that name, if there is one; other classes stay. More shots than the
        engine's profile allows are matched in chunks.

        Args:
            name: the class.
            images: K images, each a path, a file object, a PIL image, or an array uint8 [H,W,3];
                or one image. They may differ in size.
            masks: K masks, or one, in the order of the images. Each is True on the object and as
                large as its image (after EXIF rotation): a path, a file object, a PIL image, or an
                array (of any library, or a nested list) [H,W] of bool, 0/1, 0/255, or floats in
                [0,1].
            color: as for `segment`.
            crop: crop each image around its object, to this many times the sides of the object's
                box (1 or more) and never beyond the image. 1.5 is best for steady streams, which
                look closely at what they follow; None for the whole image.

        Raises:
            InputError: an unreadable image or mask, a mask that is empty or not of its image's
                size, more or fewer masks than images, no image, more than 255 classes, an unknown
                `color`, or a `crop` below 1.
            BackendError: the backend failed.

        Warns:
            HSNetWarning: a mask covers its whole image, looks like a photograph, or is so small
                that it vanishes at a feature resolution.
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
        """Write all classes to a `.npz` file for `load_supports`, here or on another machine.

        It can be loaded with the same weights, size and resize policy; precision and backend may
        differ.

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
            InputError: not such a file, a damaged one, or one of another model, size or
                preprocessing. Nothing changes then.
        """
        with self._current.use("load_supports"):
            loaded = SupportSet.load(path, self._network.origin)
            self._current.change(
                lambda supports: SupportSet({**supports.classes, **loaded.classes})
            )
