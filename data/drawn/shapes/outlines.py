"""Outlines of drawn objects, as points: their building blocks, and views of them.

An object is a list of parts, painted in order, in a square of about -1..1 (x right, y down). Parts
rotate slightly against each other from view to view, as limbs do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # [n, 2]: x, y
Point = tuple[float, float]
Random = np.random.Generator


@dataclass(frozen=True)
class Part:
    """One part of an object.

    Attributes:
        outline: [n, 2], x and y.
        material: index of one of the object's three materials; None cuts a hole.
        joint: the point it rotates about.
        swing: standard deviation of its rotation between views, in radians.
    """

    outline: Points
    material: int | None = 0
    joint: Point = (0.0, 0.0)
    swing: float = 0.0


def pose(parts: tuple[Part, ...], rng: Random) -> tuple[list[tuple[Points, int | None]], float]:
    """A random view of an object: parts swung, the whole stretched, bent, tilted and mirrored.

    Returns ([(outline, material), ...], rotation of the whole in radians).
    """
    stretch = np.exp(rng.normal(0, 0.1, 2))
    if rng.random() < 0.5:
        stretch[0] = -stretch[0]
    bend, taper, shear = rng.normal(0, 0.1), rng.normal(0, 0.1), rng.normal(0, 0.08)
    # Mostly upright, sometimes in any orientation.
    angle = float(rng.uniform(-np.pi, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.35))
    posed = []
    for part in parts:
        points = part.outline
        if part.swing:
            points = turn(points, rng.normal(0, part.swing), part.joint)
        x, y = points[:, 0], points[:, 1]
        x = x * (1 + taper * y) + bend * (y * y - 0.3) + shear * y
        posed.append((turn(np.stack([x, y], axis=1) * stretch, angle), part.material))
    return posed, angle


def turn(points: Points, angle: float, about: Point = (0.0, 0.0)) -> Points:
    """Points rotated about a point by an angle in radians, from x towards y."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Points = (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about
    return turned


def ellipse(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Points:
    """An ellipse about x, y with half axes width and height, rotated by an angle in radians."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    points = np.stack([np.cos(t) * width, np.sin(t) * height], axis=1)
    return np.asarray(turn(points, angle) + np.array([x, y]))


def box(x: float, y: float, width: float, height: float, square: float = 6.0) -> Points:
    """A superellipse with half sizes width and height; square: 2 is an ellipse, 8 a rounded box."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(t), np.sin(t)
    power = 2 / square
    points = np.stack(
        [np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], axis=1
    )
    return np.asarray(points * (width, height) + np.array([x, y]))


def limb(start: Point, end: Point, widths: Point) -> Points:
    """A bar between two points, with half width widths[0] at its start, and a round end."""
    first, last = np.array(start), np.array(end)
    along = (last - first) / np.hypot(*(last - first))
    side = np.array([-along[1], along[0]])
    t = np.linspace(0, np.pi, 7)[:, None]
    cap = last + widths[1] * (np.cos(t) * side + np.sin(t) * along)
    return np.concatenate([[first - widths[0] * side, first + widths[0] * side], cap])


def radial(radius: Points) -> Points:
    """A closed outline about the origin, from radii [n] at equal angles."""
    t = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.stack([np.cos(t) * radius, np.sin(t) * radius], axis=1)


def mirrored(profile: Points) -> Points:
    """A symmetric outline from its right side, given from top to bottom."""
    return np.concatenate([profile, profile[::-1] * (-1, 1)])


def curve(points: Points, n: int = 40) -> Points:
    """A smooth line of n points near the given ones: their Gaussian-weighted means."""
    t = np.linspace(0, len(points) - 1, n)
    k = np.arange(len(points))
    weight = np.exp(-((t[:, None] - k) ** 2) / 0.5)
    smooth: Points = (weight / weight.sum(1, keepdims=True)) @ points
    return smooth
