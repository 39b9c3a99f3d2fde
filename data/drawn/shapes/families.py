"""All families of drawn shapes; each class has its own proportions of one family."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hsnet_trt.data.drawn.shapes import geometric, living, made
from hsnet_trt.data.drawn.shapes.outlines import Part, Random

# Class ids and seeds depend on this order.
FAMILIES: tuple[Callable[[Random], list[Part]], ...] = (
    geometric.blob,
    geometric.star,
    geometric.polygon,
    geometric.slab,
    geometric.gear,
    geometric.ring,
    geometric.crescent,
    geometric.cross,
    living.tree,
    living.animal,
    living.bird,
    living.fish,
    made.vase,
    made.mug,
    made.vehicle,
    living.snake,
    living.flower,
    living.mushroom,
    living.figure,
    made.house,
    made.tool,
)
NAMES = tuple(function.__name__ for function in FAMILIES)


def build(family: int, key: int) -> tuple[Part, ...]:
    """Build shape number `key` of a family; the same key gives the same shape."""
    return tuple(FAMILIES[family](np.random.default_rng([key, family, 23])))
