"""Random augmentation of image tensors: flips, warps and changes of colour."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 0.01  # share of the picture that the object must still cover, or the warp is dropped
_TURN = math.radians(20)
_ZOOM = 0.35  # of the logarithm of the zoom, either way
_SHIFT = 0.25  # of half the picture's side
_LIGHT = 0.25  # of the logarithm of brightness; half of it per colour channel
_SATURATION = 0.4


def augment(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment each picture and its mask independently; beyond the edges both are mirrored.

    Args:
        images: uint8 [N,3,H,W].
        masks: bool [N,H,W].
        generator: on the same device.

    Returns:
        float32 [N,3,H,W] in 0..255, and bool [N,H,W].
    """
    count, height, width = masks.shape

    def spread(scale: float, *shape: int) -> Tensor:
        drawn = torch.rand((count, *shape), generator=generator, device=images.device)
        return (2 * drawn - 1) * scale

    # In pixels: in normalised coordinates, a rotation would shear pictures that are not square.
    turn, zoom = spread(_TURN), torch.exp(spread(_ZOOM))
    flip = torch.where(spread(1.0) < 0, -1.0, 1.0)
    cos, sin = torch.cos(turn) * zoom, torch.sin(turn) * zoom
    matrix = torch.stack(
        [
            torch.stack([cos * flip, -sin * height / width], 1),
            torch.stack([sin * flip * width / height, cos], 1),
        ],
        1,
    )
    matrix = torch.cat([matrix, spread(_SHIFT, 2, 1)], 2)
    grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=False)
    pictures = images.float()
    warped = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    seen = F.grid_sample(
        masks.unsqueeze(1).float(),
        grid,
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    ).squeeze(1)
    lost = (seen.mean((1, 2)) < _LEAST) & masks.any(2).any(1)  # an empty mask loses nothing
    pictures = torch.where(lost[:, None, None, None], pictures, warped)
    marked = torch.where(lost[:, None, None], masks, seen > 0.5)

    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * (1 + spread(_SATURATION, 1, 1, 1))
    pictures = pictures * torch.exp(spread(_LIGHT, 1, 1, 1) + spread(_LIGHT / 2, 3, 1, 1))
    return pictures.clamp(0, 255), marked
