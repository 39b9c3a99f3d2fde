"""Networks that answer episodes: PyTorch in FP32, and a bundle's network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hsnet_trt.calibration.episodes import encode, logits_of, voted
from hsnet_trt.data.episodes.episode import Episode, Mask
from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.matching.graphs import FEATURES, SUPPORTS, Tensors
from hsnet_trt.runtime.matching.packing import CONTRASTS
from hsnet_trt.runtime.matching.presence import objects_in, presence, score_queries
from hsnet_trt.runtime.matching.running import run_features
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.guided_filter import refine
from hsnet_trt.runtime.pictures.preprocess import network_input

if TYPE_CHECKING:
    from hsnet_trt.model.hsnet import Encoded, HSNet, Levels

Floats = npt.NDArray[np.float32]


class JudgedNetwork(Protocol):
    """A network that answers episodes at its size."""

    name: str
    on: str  # what runs it, as text

    @property
    def refine(self) -> bool:
        """Whether its masks' edges are refined."""
        ...

    def answer(self, episode: Episode) -> Mask:
        """The voted mask, bool, shaped as the episode's query_mask."""
        ...

    @property
    def says_present(self) -> bool:
        """Whether the class counted as present in the last answered episode."""
        ...

    def features(self, images: npt.NDArray[np.uint8]) -> Tensors:
        """Images [N,H,W,3] -> `f2`, `f3`, `f4`, each [N,L,C,h*w]."""
        ...


class TorchNetwork:
    """PyTorch in FP32, with the paper's vote: argmax per shot, then half of the largest vote."""

    def __init__(self, model: HSNet, device: str = "cpu") -> None:
        self._model, self._device = model.to(device).eval(), device
        self.says_present = True
        self.refine = model.refine  # whether masks' edges are refined
        self.size = model.size
        self.name = "PyTorch fp32"
        self.on = device if device == "cpu" else _gpu_name()

    def answer(self, episode: Episode) -> Mask:
        import torch

        from hsnet_trt.model.learner import upsample

        model, size = self._model, size_of_input(episode)
        with torch.no_grad():
            query, encoded = self._encode(episode)
            logits = model.match(query, encoded, size)[0]
            if self.refine:
                logits = torch.from_numpy(refined(logits.cpu().numpy(), episode, Preprocessing()))
            # Upsample directly to the judged size, as the authors' mode "use original image size".
            votes = upsample(logits, size_of(episode.query_mask)).argmax(dim=1).sum(dim=0)
            answer = votes / votes.amax().clamp(min=1) >= 0.5
        self.says_present = self._score(query, encoded, episode) >= model.present_from
        return np.asarray(answer.cpu().numpy(), np.bool_)

    def presence(self, episode: Episode) -> float:
        """The presence score of an episode's class in its query, in [0,1]."""
        import torch

        with torch.no_grad():
            return self._score(*self._encode(episode), episode)

    def _encode(self, episode: Episode) -> tuple[Levels, Encoded]:
        """Features of the query, and the encoded supports."""
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
    """A bundle's network, run by the runtime's own steps, on episodes of its size."""

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
            backend: as in FewShotSegmenter.load.
            precision: likewise.
            size: one of the bundle's sizes; None for its first.
            refine: whether masks' edges are refined; None takes the bundle's setting.

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

    @property
    def refine(self) -> bool:
        """Whether its masks' edges are refined."""
        return self._network.refine

    def answer(self, episode: Episode) -> Mask:
        network = self._network
        encoded = encode(network.runner, episode, self.size, network.preprocessing)
        score = _presence(encoded.query["f4"], encoded.supports, episode)
        self.says_present = score >= network.bundle.manifest.present_from
        logits = logits_of(network.runner, encoded)
        if network.refine:
            logits = refined(logits, episode, network.preprocessing)
        return voted(logits, episode, self.size)

    def features(self, images: npt.NDArray[np.uint8]) -> Tensors:
        batch, _ = network_input(list(images), self.size, self._network.preprocessing)
        rows = run_features(self._network.runner, batch)
        # Columns of the background contrast's vectors follow the levels' features: cut them off.
        levels = self._network.origin.shapes[: len(FEATURES)]
        return {n: rows[n][..., :count] for n, (_, _, count) in zip(FEATURES, levels, strict=True)}

    def close(self) -> None:
        """Free the network."""
        self._network.close()


def refined(logits: Floats, episode: Episode, preprocessing: Preprocessing) -> Floats:
    """Logits [K,2,h,w] refined along the query's edges: see `pictures.guided_filter`."""
    batch, _ = network_input([episode.query], size_of_input(episode), preprocessing)
    return refine(logits, batch[0], preprocessing)


def _presence(query: Floats, supports: Tensors, episode: Episode) -> float:
    """The presence score of the episode's class, from `f4` [1,L,C,h*w] and encoded supports."""
    objects = objects_in(supports)
    return presence(score_queries(query, objects)[0], objects.counts, [episode.shots])[0]


def timed(answer: Callable[[Episode], Mask], episode: Episode) -> tuple[Mask, float]:
    """An answer and the seconds it took."""
    start = time.perf_counter()
    return answer(episode), time.perf_counter() - start


def size_of_input(episode: Episode) -> tuple[int, int]:
    """(height, width) of the network's input."""
    return episode.query.shape[0], episode.query.shape[1]


def size_of(mask: Mask) -> tuple[int, int]:
    """(height, width) of a mask."""
    return mask.shape[0], mask.shape[1]


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())
