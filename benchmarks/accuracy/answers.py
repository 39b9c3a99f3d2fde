"""What answers episodes: PyTorch in FP32, a bundle's network, and what needs to be beaten."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from hsnet_trt.calibration.episodes import encode, logits_of, voted
from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.data.episodes.trivial import all_foreground, colour_histogram
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import FEATURES, SUPPORTS, Tensors, run_features
from hsnet_trt.runtime.matching.packing import CONTRASTS
from hsnet_trt.runtime.matching.presence import objects_in, presence, score_queries
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.guided_filter import refine
from hsnet_trt.runtime.pictures.preprocess import network_input

if TYPE_CHECKING:
    from hsnet_trt.model.hsnet import Encoded, HSNet, Levels

Floats = npt.NDArray[np.float32]


class JudgedNetwork(Protocol):
    """A network that answers episodes at its size."""

    name: str
    on: str  # what runs it, in words

    def answer(self, episode: Episode) -> Mask:
        """The voted mask, bool, shaped as the episode's query_mask."""
        ...

    @property
    def says_present(self) -> bool:
        """Whether the class counted as present in the episode that was answered last."""
        ...

    def features(self, images: npt.NDArray[np.uint8]) -> Tensors:
        """Images [N,H,W,3] -> `f2`, `f3`, `f4`, each [N,L,C,h*w]."""
        ...


class TorchNetwork:
    """PyTorch in FP32, by the paper's rule: argmax per shot, vote, half of the largest vote."""

    def __init__(self, model: HSNet, device: str = "cpu") -> None:
        self._model, self._device = model.to(device).eval(), device
        self.says_present = True
        self.refine = model.refine  # whether masks are refined
        self.size = model.size
        self.name = "PyTorch fp32"
        self.on = device if device == "cpu" else _gpu_name()

    def answer(self, episode: Episode) -> Mask:
        import torch

        from hsnet_trt.model.learner import upsample

        model, size = self._model, _size(episode)
        with torch.no_grad():
            query, encoded = self._encode(episode)
            logits = model.match(query, encoded, size)[0]
            if self.refine:
                logits = torch.from_numpy(_refined(logits.cpu().numpy(), episode, Preprocessing()))
            # Straight to the size that is judged: the authors' mode "use original image size".
            votes = upsample(logits, _size_of(episode.query_mask)).argmax(dim=1).sum(dim=0)
            answer = votes / votes.amax().clamp(min=1) >= 0.5
        self.says_present = self._score(query, encoded, episode) >= model.present_from
        return np.asarray(answer.cpu().numpy(), np.bool_)

    def presence(self, episode: Episode) -> float:
        """The score of an episode's class in its query, in [0,1]."""
        import torch

        with torch.no_grad():
            return self._score(*self._encode(episode), episode)

    def _encode(self, episode: Episode) -> tuple[Levels, Encoded]:
        """Features of the query, and the supports, encoded."""
        import torch

        shown = self._features(episode.supports)
        masks = torch.from_numpy(episode.support_masks).to(self._device).float()
        return self._features(episode.query[None]), self._model.support(shown, masks)

    @staticmethod
    def _score(query: Levels, encoded: Encoded, episode: Episode) -> float:
        names = (*SUPPORTS, *CONTRASTS)[: len(encoded)]
        supports = {n: t.cpu().numpy() for n, t in zip(names, encoded, strict=True)}
        return _presence(query[2].cpu().numpy(), supports, episode)

    def features(self, images: npt.NDArray[np.uint8]) -> Tensors:
        import torch

        with torch.no_grad():
            levels = self._features(images)
        return {name: level.cpu().numpy() for name, level in zip(FEATURES, levels, strict=True)}

    def _features(self, images: npt.NDArray[np.uint8]) -> Any:
        import torch

        from hsnet_trt.training.batches import normalise

        pictures = torch.from_numpy(np.array(images)).to(self._device)
        return self._model.features(normalise(pictures.permute(0, 3, 1, 2)))


class BundleNetwork:
    """A bundle's network, through the runtime's own steps, on episodes of its size."""

    def __init__(
        self,
        path: Path,
        backend: str = "auto",
        precision: str | None = None,
        size: tuple[int, int] | None = None,
        refine: bool | None = None,
    ) -> None:
        """Open the bundle.

        Args:
            path: its folder.
            backend: as FewShotSegmenter.load takes it.
            precision: likewise.
            size: one of the bundle's; None for its first.
            refine: whether masks are refined; None as the bundle says.

        Raises:
            BundleError: no bundle, a damaged one, or one without that size or precision.
            BackendError: the backend cannot run here.
        """
        self._network = network = Network.load(
            path, backend, size, precision=precision, refine=refine
        )
        self.size = network.size
        self.weights_sha256 = network.bundle.manifest.model.weights_sha256
        self.says_present = True
        self.name = f"{network.runner.backend} {network.runner.precision}"
        self.on = network.runner.device

    def answer(self, episode: Episode) -> Mask:
        network = self._network
        encoded = encode(network.runner, episode, self.size, network.preprocessing)
        score = _presence(encoded.query["f4"], encoded.supports, episode)
        self.says_present = score >= network.bundle.manifest.present_from
        logits = logits_of(network.runner, encoded)
        if network.refine:
            logits = _refined(logits, episode, network.preprocessing)
        return voted(logits, episode, self.size)

    def features(self, images: npt.NDArray[np.uint8]) -> Tensors:
        batch, _ = network_input(list(images), self.size, self._network.preprocessing)
        rows = run_features(self._network.runner, batch)
        # Those of the background contrast's vectors come behind the levels'.
        levels = self._network.origin.shapes[: len(FEATURES)]
        return {n: rows[n][..., :count] for n, (_, _, count) in zip(FEATURES, levels, strict=True)}

    def close(self) -> None:
        """Free the network."""
        self._network.close()


def _refined(logits: Floats, episode: Episode, preprocessing: Preprocessing) -> Floats:
    """Logits [K,2,h,w] refined by the query: see `pictures.guided_filter`."""
    batch, _ = network_input([episode.query], _size(episode), preprocessing)
    return refine(logits, batch[0], preprocessing)


def _presence(query: Floats, supports: Tensors, episode: Episode) -> float:
    """The score of its class, of `f4` [1,L,C,h*w] and its supports."""
    objects = objects_in(supports)
    return presence(score_queries(query, objects)[0], objects.counts, [episode.shots])[0]


def foreground_minus_background(features: Tensors, levels: Sequence[str], episode: Episode) -> Mask:
    """Answer by two prototypes, without any learning beyond the backbone's.

    The prototypes are the mean feature of the supports' objects (masked average pooling, SG-One,
    arXiv 1810.09091, section III) and that of all the rest. A pixel is the object where its
    feature's cosine to the first is above that to the second, in the mean over the levels.

    Args:
        features: of the query, then of the K supports, each level [1+K,L,C,h*w].
        levels: of "f2", "f3" and "f4" (strides 8, 16, 32); the last layer of each is used.
        episode: whose supports' masks they are.

    Returns:
        bool, shaped as the episode's query_mask.
    """
    contrasts = [_contrast(features[level][:, -1], episode) for level in levels]
    return np.asarray(np.sum(contrasts, axis=0) > 0, np.bool_)


def _contrast(last: Floats, episode: Episode) -> Floats:
    """Cosine to the objects' mean less cosine to the rest's, float32 [H,W] of the query's mask.

    `last` holds the features of the query and of the K supports, [1+K,C,h*w].
    """
    grid = _grid(last.shape[2], _size(episode))
    shares = np.stack([_shrunk(mask, grid) for mask in episode.support_masks])  # [K,h*w]
    supports = last[1:].transpose(1, 0, 2).reshape(last.shape[1], -1)  # [C,K*h*w]
    means = [
        supports @ (weight / max(float(weight.sum()), 1e-6))
        for weight in (shares.ravel(), 1 - shares.ravel())
    ]
    cosines = [
        mean @ last[0] / (np.linalg.norm(mean) * np.linalg.norm(last[0], axis=0) + 1e-6)
        for mean in means
    ]
    difference = np.asarray(cosines[0] - cosines[1], np.float32).reshape(grid)
    height, width = episode.query_mask.shape
    smooth = PILImage.fromarray(difference).resize((width, height), PILImage.Resampling.BILINEAR)
    return np.asarray(smooth, np.float32)


@dataclass(frozen=True)
class Trivial:
    """An answer that needs no learned squeeze network, named."""

    name: str
    answer: Callable[[Episode], Mask]


# One level each, and the two best ones together, which is the strongest of all.
_PROTOTYPES = {
    "prototypes, stride 8": ("f2",),
    "prototypes, stride 16": ("f3",),
    "prototypes, stride 32": ("f4",),
    "prototypes, 16 + 32": ("f3", "f4"),
}


def trivial_answers(network: JudgedNetwork) -> list[Trivial]:
    """All trivial answers; the prototypes use the backbone of `network`."""
    kept: list[tuple[Episode, Tensors]] = []  # features of the last episode, for all prototypes

    def features_of(episode: Episode) -> Tensors:
        if not kept or kept[0][0] is not episode:
            images = np.concatenate([episode.query[None], episode.supports])
            kept[:] = [(episode, network.features(images))]
        return kept[0][1]

    def by_prototypes(name: str, levels: Sequence[str]) -> Trivial:
        return Trivial(
            name,
            lambda episode: foreground_minus_background(features_of(episode), levels, episode),
        )

    return [
        Trivial("all foreground", all_foreground),
        Trivial("colour histogram", colour_histogram),
        *(by_prototypes(name, levels) for name, levels in _PROTOTYPES.items()),
    ]


def timed(answer: Callable[[Episode], Mask], episode: Episode) -> tuple[Mask, float]:
    """An answer and the seconds it took."""
    start = time.perf_counter()
    return answer(episode), time.perf_counter() - start


def _size(episode: Episode) -> tuple[int, int]:
    return episode.query.shape[0], episode.query.shape[1]


def _size_of(mask: Mask) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]


def _grid(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of so many positions, of the images' proportions."""
    heights = [h for h in range(1, positions + 1) if positions % h == 0]
    wanted = math.log(size[0] / size[1])
    height = min(heights, key=lambda h: abs(math.log(h * h / positions) - wanted))
    return height, positions // height


def _shrunk(mask: Mask, grid: tuple[int, int]) -> Floats:
    """The share of each position that the mask covers, float32 [h*w]."""
    picture = PILImage.fromarray(mask.astype(np.float32))
    small = picture.resize((grid[1], grid[0]), PILImage.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())
