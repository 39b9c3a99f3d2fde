"""PyTorch as a contender: eager, compiled, in half precision, with cached supports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hsnet_trt.benchmarks.limits.case import Pixels, SupportPictures
from hsnet_trt.benchmarks.speed.contenders import Floats, Masks, Spec
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.pictures.preprocess import network_input


class TorchContender:
    """HSNet in PyTorch in the authors' order of operations (`authors_order`)."""

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        import torch

        from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder
        from hsnet_trt.model.checkpoint import load_checkpoint
        from hsnet_trt.model.recipe import recipe_model

        self._spec, self._size, self._torch = spec, size, torch
        # By default cuDNN rounds FP32 to TF32. This affects only this contender's own process.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        model = (
            load_checkpoint(spec.checkpoint, weights=spec.weights)
            if spec.checkpoint
            else recipe_model(spec.backbone)
        )
        net = AuthorsOrder(model).eval().to(spec.device)
        if spec.channels_last:
            # PyTorch's annotation of `to` lacks it.
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net = net
        self._forward: Callable[..., Any] = (
            torch.compile(net, dynamic=False) if spec.compiled else net
        )
        self._supports: list[list[Any]] = []
        self._types = {"fp16": torch.float16, "bf16": torch.bfloat16}

    def register(self, supports: SupportPictures) -> None:
        """Keep [class][shot] of (picture, mask), or of encoded layers if they are cached."""
        self._supports = []
        for images, masks in zip(supports.images, supports.masks, strict=True):
            shots = [
                (
                    self._tensor([image]),
                    self._torch.from_numpy(mask[None]).float().to(self._spec.device),
                )
                for image, mask in zip(images, masks, strict=True)
            ]
            if self._spec.caches:
                with self._mode():
                    self._supports.append([self._net.encode_support(*shot) for shot in shots])
            else:
                self._supports.append(shots)

    def segment(self, images: Sequence[Pixels]) -> Masks:
        from hsnet_trt.benchmarks.speed.authors_order import vote

        with self._mode():
            found = [vote(logits) for logits in self._logits(images)]
            masks: Masks = self._torch.stack(found, dim=1).cpu().numpy()
        return masks

    def stream(self, frames: Iterable[Pixels]) -> Iterator[Masks]:
        for frame in frames:
            yield self.segment([frame])

    def scores(self, image: Pixels) -> Floats:
        with self._mode():
            means = [
                self._torch.stack([shot.float().softmax(1)[0, 1] for shot in logits]).mean(0)
                for logits in self._logits([image])
            ]
            maps: Floats = self._torch.stack(means).cpu().numpy()
        return maps

    def device_bytes(self) -> int | None:
        if self._spec.device == "cpu":
            return None
        return int(self._torch.cuda.max_memory_reserved())

    def facts(self) -> dict[str, str]:
        torch = self._torch
        return {
            "backend": f"torch {torch.__version__}",
            "device": torch.cuda.get_device_name() if self._spec.device != "cpu" else "cpu",
            "threads": str(torch.get_num_threads()),
            "tf32 matmul": str(torch.backends.cuda.matmul.allow_tf32),
            "tf32 cudnn": str(torch.backends.cudnn.allow_tf32),
        }

    def _tensor(self, images: Sequence[Pixels]) -> Any:
        batch = self._torch.from_numpy(network_input(images, self._size, Preprocessing())[0])
        if self._spec.channels_last:
            batch = batch.contiguous(memory_format=self._torch.channels_last)
        return batch.to(self._spec.device)

    def _logits(self, images: Sequence[Pixels]) -> list[list[Any]]:
        """Logits [B,2,H,W] for each [class][shot]."""
        query, count = self._tensor(images), len(images)
        if self._spec.caches:
            features = self._net.encode(query)
            return [
                [self._net.match(features, _each(shot, count), self._size) for shot in shots]
                for shots in self._supports
            ]
        return [
            [self._forward(query, *_each(shot, count)) for shot in shots]
            for shots in self._supports
        ]

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        dtype = self._types.get(self._spec.precision)
        device = self._spec.device.partition(":")[0]
        with (
            self._torch.no_grad(),
            self._torch.autocast(device, dtype=dtype, enabled=dtype is not None),
        ):
            yield


def _each(tensors: Iterable[Any], count: int) -> list[Any]:
    """One support, expanded to every query of the batch."""
    return [t.expand(count, *t.shape[1:]) for t in tensors]
