"""The eye that findings are painted on, and the marks that several findings share: dots, flames, exudates, cotton wool."""

from dataclasses import dataclass

import numpy as np

from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.camera import Camera
from mgll.synthetic.canvas import Array, Canvas, smoothstep
from mgll.synthetic.vessels import Branches

Rng = np.random.Generator

EXUDATE = (0.97, 0.86, 0.46)
COTTON = (0.96, 0.91, 0.76)
DRUSE = (0.94, 0.76, 0.42)


@dataclass
class Eye:
    """An eye while it is painted.

    Attributes:
        canvas: the image that is painted on.
        anatomy: parameters of the eye.
        tree: vessels of the eye: trunks, branches, twigs.
        camera: the exposure, which says what is in view.
    """

    canvas: Canvas
    anatomy: Anatomy
    tree: list[Branches]
    camera: Camera

    def from_fovea(self, x: Array | float, y: Array | float) -> Array:
        """Distance of points to the fovea, DD."""
        return np.hypot(x - self.anatomy.fovea[0], y - self.anatomy.fovea[1])


def places(eye: Eye, rng: Rng, count: int, spread: float = 1.0, off_macula: float = 0.0) -> tuple[Array, Array]:
    """Points of the retina in view: off the disc, and `off_macula` DD off the fovea; `spread` is a share of the field."""
    reach = eye.camera.angle * 0.92 * spread
    radius, angle = reach * np.sqrt(rng.random(count * 4 + 8)), rng.uniform(0, 2 * np.pi, count * 4 + 8)
    # A part of the field round the point between disc and fovea, where disease of the posterior pole sits.
    x = eye.camera.centre[0] + radius * np.cos(angle)
    y = eye.camera.centre[1] + radius * np.sin(angle)
    good = (np.hypot(x, y) > 0.75) & (eye.from_fovea(x, y) > off_macula) & (np.abs(y - eye.camera.centre[1]) < 2.8)
    return x[good][:count], y[good][:count]


def around(rng: Rng, x: float, y: float, spread: float, count: int) -> tuple[Array, Array]:
    """Points scattered normally round (x, y), standard deviation `spread` DD."""
    return x + rng.normal(0, spread, count), y + rng.normal(0, spread, count)


def dots(eye: Eye, rng: Rng, x: Array, y: Array, smallest: float, largest: float, depth: float = 0.9) -> None:
    """Round haemorrhages and microaneurysms, radii from `smallest` to `largest` DD, of different depth."""
    radius = np.exp(rng.uniform(np.log(smallest), np.log(largest), len(x)))
    depth *= rng.uniform(0.6, 1.1)
    eye.canvas.absorb(eye.canvas.stamp(x, y, radius, rng.uniform(0.45, 1.0, len(x)), soft=0.025), depth)


def blots(eye: Eye, rng: Rng, x: Array, y: Array, size: float) -> None:
    """Irregular blot haemorrhages: each a heap of overlapping dots."""
    parts = 8
    spread = size * rng.uniform(0.3, 0.8, (len(x), 1))
    cx = (x[:, None] + rng.normal(0, 1, (len(x), parts)) * spread).ravel()
    cy = (y[:, None] + rng.normal(0, 0.8, (len(x), parts)) * spread).ravel()
    dots(eye, rng, cx, cy, 0.3 * size, 0.9 * size, 0.95)


def flames(eye: Eye, rng: Rng, x: Array, y: Array, length: float, depth: float = 0.85) -> None:
    """Flame haemorrhages: bundles of tapering strokes along the nerve fibres."""
    fibres, points = 8, 14
    heading = np.arctan2(y, x)[:, None] + rng.normal(0, 0.16, (len(x), fibres))
    size = length * np.exp(rng.uniform(np.log(0.35), np.log(1.5), (len(x), 1)))
    across = rng.normal(0, 0.16, (len(x), fibres)) * size
    along = rng.normal(0, 0.22, (len(x), fibres)) * size
    cx = x[:, None] + along * np.cos(heading) - across * np.sin(heading)
    cy = y[:, None] + along * np.sin(heading) + across * np.cos(heading)
    s = np.linspace(-0.5, 0.5, points)
    reach = size[..., None] * rng.uniform(0.5, 1.2, (len(x), fibres, 1)) * s
    radius = (0.045 * size + 0.006)[..., None] * np.sqrt(np.clip(1 - (2 * s) ** 2, 0, 1)) * np.ones_like(reach)
    strength = np.broadcast_to(rng.uniform(0.35, 1.0, (len(x), fibres, 1)), reach.shape)
    mask = eye.canvas.stamp(
        cx[..., None] + reach * np.cos(heading)[..., None],
        cy[..., None] + reach * np.sin(heading)[..., None],
        radius,
        strength,
        soft=0.02,
    )
    eye.canvas.absorb(mask, depth * rng.uniform(0.7, 1.1))


def exudates(eye: Eye, rng: Rng, x: Array, y: Array, largest: float = 0.06, opacity: float = 0.85) -> None:
    """Hard exudates: small, sharp, waxy yellow specks."""
    radius = largest * rng.power(1.6, len(x)).clip(0.35, 1)
    eye.canvas.paint(eye.canvas.stamp(x, y, radius, rng.uniform(0.5, 1, len(x)), soft=0.012), EXUDATE, opacity)


def exudate_rings(eye: Eye, rng: Rng, x: Array, y: Array, size: float) -> None:
    """Circinate clusters: specks on part of a ring round each point, some inside."""
    for cx, cy in zip(x, y, strict=True):
        count = int(rng.integers(10, 28))
        angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(2.0, 6.0), count)
        radius = size * rng.uniform(0.5, 1.0) * rng.normal(1, 0.22, count)
        exudates(eye, rng, cx + radius * np.cos(angle), cy + radius * np.sin(angle))


def cotton_wool(eye: Eye, rng: Rng, x: Array, y: Array) -> None:
    """Cotton wool spots: soft white patches with feathered borders, near the vessels."""
    for cx, cy in zip(x, y, strict=True):
        size = rng.uniform(0.09, 0.19)
        across = np.arctan2(cy, cx) + np.pi / 2
        wobble = 0.4 * eye.canvas.noise(rng, 0.17, 2)
        patch = eye.canvas.blob(cx, cy, size * rng.uniform(1, 1.5), size, across, 0.7, wobble)
        eye.canvas.paint(patch, COTTON, rng.uniform(0.55, 0.85))


def fade_inside(distance: Array, radius: float, width: float) -> Array:
    """A mask by distance: 1 up to `radius`, 0 beyond `radius + width`, smooth between."""
    return smoothstep((radius + width - distance) / width)
