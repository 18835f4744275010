"""The painted image and its few primitives: stamps, blobs, smooth noise, absorption and paint.

Positions and lengths are in disc diameters (DD) with the optic disc at the origin, x towards the fovea (temporal) and y
down, so that a drawing does not depend on the image size; only the primitives here know pixels.
"""

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray

#: Absorbance of blood in red, green and blue: red light passes, so blood darkens towards red.
BLOOD = (0.50, 1.55, 1.45)
#: Absorbance of melanin: brown.
MELANIN = (0.75, 0.95, 1.0)


@dataclass
class Canvas:
    """A square RGB image with coordinates on the retina.

    Attributes:
        size: height and width in pixels.
        scale: pixels per disc diameter.
        centre: retinal position (DD) of the image's middle.
        rgb: the image, (size, size, 3) float32 in 0..1.
        x: retinal x of each column, (1, size), DD.
        y: retinal y of each row, (size, 1), DD.
    """

    size: int
    scale: float
    centre: tuple[float, float]
    rgb: Array = field(init=False)
    x: Array = field(init=False)
    y: Array = field(init=False)

    def __post_init__(self) -> None:
        offsets = ((np.arange(self.size) + 0.5 - self.size / 2) / self.scale).astype(np.float32)
        self.x, self.y = offsets[None, :] + np.float32(self.centre[0]), offsets[:, None] + np.float32(self.centre[1])
        self.rgb = np.zeros((self.size, self.size, 3), np.float32)

    def distance(self, x: float, y: float) -> Array:
        """Distance of every pixel from a point, (size, size), DD."""
        return np.hypot(self.x - np.float32(x), self.y - np.float32(y))

    def noise(self, rng: np.random.Generator, cell: float, octaves: int = 1) -> Array:
        """Smooth noise, (size, size), mean 0, standard deviation about 1; `cell` is its grain in DD, halved each octave."""
        total, power = np.zeros((self.size, self.size), np.float32), 0.0
        for octave in range(octaves):
            grain = cell / 2**octave
            position = (np.arange(self.size) + 0.5) / self.scale / grain
            nodes = int(position[-1]) + 4
            field = rng.standard_normal((nodes, nodes), dtype=np.float32)
            # Cubic B-splines make it smooth. They are separable, with four taps each way: first rows, then columns.
            low, taps = position.astype(int), _spline_taps(position % 1)
            field = sum(tap[:, None] * field[low + step] for step, tap in enumerate(taps))
            field = sum(tap[None, :] * field[:, low + step] for step, tap in enumerate(taps))
            total += field * np.float32(2.1 * 0.5**octave)
            power += 0.25**octave
        return total / np.float32(np.sqrt(power))

    def ragged(self, rng: np.random.Generator, x: float, y: float, depth: float) -> Array:
        """A `wobble` for `blob` that makes an irregular outline round (x, y): random waves over the angle, (size, size)."""
        bearing = np.arctan2(self.y - np.float32(y), self.x - np.float32(x))
        waves = [np.cos(k * bearing + rng.uniform(0, 2 * np.pi)) * (rng.normal() / k**0.7) for k in range(2, 9)]
        return np.float32(depth) * sum(waves)

    def blob(
        self,
        x: float,
        y: float,
        width: float,
        height: float | None = None,
        angle: float = 0.0,
        edge: float = 0.15,
        wobble: float | Array = 0.0,
    ) -> Array:
        """Mask of a soft-edged ellipse, (size, size) in 0..1.

        Args:
            x: centre, DD.
            y: centre, DD.
            width: half axis along `angle`, DD.
            height: half axis across that direction, DD; `width` if None.
            angle: direction of the first half axis, radians.
            edge: half width of the border as a share of the radius (1 is a mound without border).
            wobble: added to the normalised radius, e.g. noise for an irregular outline.
        """
        u = (self.x - x) * np.cos(angle) + (self.y - y) * np.sin(angle)
        v = (self.y - y) * np.cos(angle) - (self.x - x) * np.sin(angle)
        radius = np.hypot(u / width, v / (height or width)) + wobble
        edge = max(edge, 0.7 / (self.scale * width))
        return smoothstep((1 + edge - radius) / (2 * edge))

    def stamp(self, x: Array, y: Array, radius: Array, strength: Array | float = 1.0, soft: float = 0.0) -> Array:
        """Mask of many small discs (also of strokes: discs in a row), the stronger one where they overlap.

        Args:
            x: centres, DD, any shape.
            y: centres, DD.
            radius: radii, DD; below half a pixel a disc fades instead of shrinking.
            strength: height of each disc.
            soft: half width of the border, DD; never below half a pixel.

        Returns:
            (size, size) float32.
        """
        x, y, radius, strength = (np.ravel(a) for a in np.broadcast_arrays(x, y, radius, strength))
        columns = (x - self.centre[0]) * self.scale + self.size / 2 - 0.5
        rows = (y - self.centre[1]) * self.scale + self.size / 2 - 0.5
        radii, border = radius * self.scale, max(0.5, soft * self.scale)
        mask = np.zeros(self.size * self.size, np.float32)
        reach = radii + border
        inside = (radii > 0.05) & (np.abs(columns - self.size / 2) < self.size / 2 + reach)
        inside &= np.abs(rows - self.size / 2) < self.size / 2 + reach
        # Small and large discs apart, so that one large one does not give all of them its window.
        halves = np.maximum(1, 2 ** np.ceil(np.log2(np.maximum(reach, 1)))).astype(int)
        for half in np.unique(halves[inside]):
            pick = inside & (halves == half)
            self._stamp_window(
                mask, columns[pick], rows[pick], radii[pick], strength[pick], border, int(np.ceil(reach[pick].max()))
            )
        return mask.reshape(self.size, self.size)

    def _stamp_window(
        self, mask: Array, columns: Array, rows: Array, radii: Array, strength: Array, border: float, half: int
    ) -> None:
        offset = np.arange(-half, half + 1)
        column = np.rint(columns).astype(int)[:, None, None] + offset[None, None, :]
        row = np.rint(rows).astype(int)[:, None, None] + offset[None, :, None]
        distance = np.hypot(column - columns[:, None, None], row - rows[:, None, None])
        height = (radii[:, None, None] + border - distance) / (2 * border)
        height = np.minimum(height, np.minimum(1, radii / 0.5)[:, None, None]) * strength[:, None, None]
        keep = (height > 0.01) & (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size)
        np.maximum.at(mask, (row * self.size + column)[keep], height[keep].astype(np.float32))

    def absorb(self, mask: Array, strength: float, absorbance: tuple[float, float, float] = BLOOD) -> None:
        """Darken the image where `mask` (size, size) is not 0, as an absorbing layer does."""
        self.rgb *= np.exp(-mask[..., None] * np.float32(strength) * np.asarray(absorbance, np.float32))

    def paint(self, mask: Array, colour: tuple[float, float, float] | Array, opacity: float = 1.0) -> None:
        """Blend the image towards `colour` where `mask` (size, size) is not 0."""
        cover = (mask * np.float32(opacity))[..., None]
        self.rgb += cover * (np.asarray(colour, np.float32) - self.rgb)


def _spline_taps(t: Array) -> Array:
    """Weights of a cubic B-spline on four nodes for positions `t` in 0..1 past the second, (4, size) float32."""
    return (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]).astype(np.float32) / 6
    )


def smoothstep(t: Array) -> Array:
    """A smooth step: 0 for `t` below 0, 1 for `t` above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
