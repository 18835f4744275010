"""The retinal vessel tree: four arcades of an artery and a vein each, branching twice, bending round the macula."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.canvas import Array, Canvas

#: Arcades in the order of `Branches.arcade`: direction of x (temporal 1, nasal -1) and of y (inferior 1, superior -1).
ARCADES = ((1, -1), (1, 1), (-1, -1), (-1, 1))
_TRUNK_POINTS, _BRANCH_POINTS = 60, 22


@dataclass(frozen=True)
class Branches:
    """Vessels of one order, N of them with T points each.

    Attributes:
        x: (N, T), DD.
        y: (N, T), DD.
        radius: (N, T), DD.
        vein: (N,) bool; the others are arteries.
        arcade: (N,) index into `ARCADES`.
    """

    x: Array
    y: Array
    radius: Array
    vein: Array
    arcade: Array

    @property
    def heading(self) -> Array:
        """Direction of the vessel at every point, (N, T), radians."""
        return np.arctan2(np.gradient(self.y, axis=1), np.gradient(self.x, axis=1))


def grow_vessels(anatomy: Anatomy, rng: np.random.Generator) -> list[Branches]:
    """Grow trunks, branches and twigs, in this order."""
    trunks = _trunks(anatomy, rng)
    branches = _spawn(trunks, 8, anatomy, rng)
    twigs = _spawn(branches, 3, anatomy, rng)
    tree = [trunks, branches, twigs]
    if anatomy.beading:
        tree = [_bead(order, anatomy.beading, rng) for order in tree]
    if anatomy.nicking:
        tree = _nick(tree, anatomy.nicking)
    return tree


def _trunks(anatomy: Anatomy, rng: np.random.Generator) -> Branches:
    count = 2 * len(ARCADES)
    arcade, vein = np.repeat(np.arange(len(ARCADES)), 2), np.arange(count) % 2 == 1
    side, down = np.array(ARCADES)[arcade].T
    s = np.linspace(0, 1, _TRUNK_POINTS)[None, :]
    along = s**1.15 * rng.uniform(5.6, 6.6, (count, 1))
    temporal = (side == 1)[:, None]
    # Temporal trunks leave the disc upright and level off above the macula; nasal ones run on outwards.
    # Artery and vein of an arcade run apart, either one outside.
    apart = np.repeat(rng.choice((-0.1, 0.1), (count // 2, 1)), 2, axis=0) * np.where(vein, 1, -1)[:, None]
    height = anatomy.arcade * (1 + apart + rng.normal(0, 0.035, (count, 1)))
    bend = rng.uniform(0.75, 1.25, (count, 1))
    arch = height * (1 - np.exp(-along / bend)) ** 0.62 - 0.035 * along**2 * rng.uniform(0.2, 1.2, (count, 1))
    ray = (rng.uniform(0.45, 0.75, (count, 1)) + 1.6 * apart) * along + 0.8 * (1 - np.exp(-along / 0.22))
    sway = _sway(count, s, rng) * 0.13 * _bending(anatomy, vein) * np.minimum(1, along / 0.8)
    x = side[:, None] * along * np.where(temporal, 1, 0.8) - 0.10 + 0.5 * sway
    y = down[:, None] * np.where(temporal, arch, ray) + sway
    widest = np.where(vein, anatomy.vein_width, anatomy.artery_width)[:, None]
    widest = widest * np.where(temporal, 1, 0.8) * rng.uniform(0.9, 1.1, (count, 1))
    return Branches(x, y, widest * (1 - 0.62 * s), vein, arcade)


def _spawn(parents: Branches, per_parent: int, anatomy: Anatomy, rng: np.random.Generator) -> Branches:
    """Grow `per_parent` branches from every parent vessel, to alternating sides."""
    rows, points = parents.x.shape
    slot = (np.arange(per_parent) + rng.uniform(0.1, 0.9, (rows, per_parent))) / per_parent
    index = np.clip((0.04 + 0.92 * slot) * points, 1, points - 2).astype(int).ravel()
    row = np.repeat(np.arange(rows), per_parent)
    first = rng.integers(0, 2, (rows,))
    side = np.where((np.tile(np.arange(per_parent), rows) + first[row]) % 2 == 0, 1.0, -1.0)
    count = rows * per_parent
    left = 1 - index / points
    length = np.where(points == _TRUNK_POINTS, 2.2, 0.9) * rng.uniform(0.4, 1.45, count) * (0.45 + 0.55 * left)
    turn = side * rng.uniform(0.55, 1.15, count)
    s = np.linspace(0, 1, _BRANCH_POINTS)[None, :]
    # A branch bends back towards its parent's direction, and sways.
    vein = parents.vein[row]
    heading = (parents.heading[row, index] + turn)[:, None] - 0.55 * turn[:, None] * s
    heading = heading + 0.33 * _bending(anatomy, vein) * _sway(count, s, rng)
    step = (length / _BRANCH_POINTS)[:, None]
    x = parents.x[row, index][:, None] + np.cumsum(np.cos(heading), axis=1) * step
    y = parents.y[row, index][:, None] + np.cumsum(np.sin(heading), axis=1) * step
    share = rng.uniform(0.5, 0.72, count)
    radius = (share * parents.radius[row, index])[:, None] * (1 - 0.6 * s)
    # The fovea has no vessels: they thin out and end round it.
    open_way = np.clip((np.hypot(x - anatomy.fovea[0], y - anatomy.fovea[1]) - 0.3) / 0.8, 0, 1)
    return Branches(x, y, radius * np.minimum.accumulate(open_way, axis=1), vein, parents.arcade[row])


def _bending(anatomy: Anatomy, vein: Array) -> Array:
    return anatomy.tortuosity * np.where(vein, anatomy.vein_tortuosity, 1.0)[:, None]


def _sway(count: int, s: Array, rng: np.random.Generator) -> Array:
    """Smooth random bending along a vessel, (count, T), size about 1."""
    total = np.zeros((count, s.shape[1]))
    for frequency in (1.0, 2.3, 4.7):
        phase, size = rng.uniform(0, 2 * np.pi, (count, 1)), rng.normal(0, 1, (count, 1))
        total += size * np.sin(2 * np.pi * frequency * s + phase) / frequency**0.6
    return total / 1.3


def _bead(order: Branches, depth: float, rng: np.random.Generator) -> Branches:
    s = np.arange(order.x.shape[1])[None, :]
    wave = np.sin(s * rng.uniform(0.9, 1.3, (len(order.vein), 1)) + rng.uniform(0, 6, (len(order.vein), 1)))
    return replace(order, radius=np.where(order.vein[:, None], order.radius * (1 + 0.55 * depth * wave), order.radius))


def _nick(tree: list[Branches], depth: float) -> list[Branches]:
    """Narrow the veins beside every crossing with an artery."""
    crossing = cKDTree(
        np.concatenate(
            [np.stack([order.x[~order.vein].ravel(), order.y[~order.vein].ravel()], 1) for order in tree[:2]]
        )
    )
    nicked = []
    for order in tree:
        gap, _ = crossing.query(np.stack([order.x.ravel(), order.y.ravel()], 1), distance_upper_bound=0.3)
        # Off the disc only: there artery and vein run together without pressing on each other.
        near = np.exp(-((np.reshape(gap, order.x.shape) / 0.09) ** 2)) * (np.hypot(order.x, order.y) > 0.75)
        nicked.append(replace(order, radius=order.radius * (1 - depth * near * order.vein[:, None])))
    return nicked


def paint_vessels(canvas: Canvas, anatomy: Anatomy, tree: list[Branches]) -> None:
    """Paint veins, arteries over them, and the arteries' light reflex."""
    veins = np.zeros((canvas.size, canvas.size), np.float32)
    arteries, reflexes = veins.copy(), veins.copy()
    for number, order in enumerate(tree):
        veins = np.maximum(veins, _trace(canvas, order, order.vein, 1.0))
        arteries = np.maximum(arteries, _trace(canvas, order, ~order.vein, 1.0))
        if number < 2:
            reflexes = np.maximum(reflexes, _trace(canvas, order, ~order.vein, 0.35 + 0.3 * anatomy.copper))
    canvas.absorb(veins, 0.62)
    canvas.absorb(arteries, 0.40, (0.45, 1.5, 1.55))
    canvas.paint(reflexes, (0.98, 0.74 - 0.1 * anatomy.copper, 0.50 - 0.2 * anatomy.copper), 0.55 * anatomy.reflex)


def _trace(canvas: Canvas, order: Branches, pick: Array, width: float) -> Array:
    """Mask of the picked vessels: each drawn as a row of discs less than a pixel apart."""
    x, y, radius = order.x[pick], order.y[pick], order.radius[pick]
    gap = np.hypot(np.diff(x, axis=1), np.diff(y, axis=1)).max() * canvas.scale
    fine = np.linspace(0, x.shape[1] - 1, int((x.shape[1] - 1) * np.ceil(gap / 0.8)) + 1)
    low = np.minimum(fine.astype(int), x.shape[1] - 2)
    part = fine - low
    x, y, radius = (a[:, low] * (1 - part) + a[:, low + 1] * part for a in (x, y, radius))
    return canvas.stamp(x, y, radius * width)
