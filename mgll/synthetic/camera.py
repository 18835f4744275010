"""The photograph: where the camera looks, how it lights the eye, and what it does to the picture.

Everything here varies from image to image whatever the findings are, except the view (a glaucoma service photographs discs).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from mgll.synthetic.canvas import Array, Canvas, smoothstep

#: Views of a fundus camera: between disc and fovea, on the fovea, on the disc.
View = Literal["standard", "macula", "disc"]
VIEWS: tuple[View, ...] = ("standard", "macula", "disc")


@dataclass(frozen=True)
class Camera:
    """One exposure. Lengths are shares of half the image's side.

    Attributes:
        centre: retinal position in the middle of the field, in disc diameters (DD).
        angle: radius of the field of view, DD.
        radius: radius of the field in the image.
        band: half height at which the film gate cuts the field, larger than `radius` where it does not cut.
        gain: exposure of each channel.
        gamma: tone curve.
        falloff: loss of light at the border, 0..1.
        tilt: uneven light, change from middle to border along x and y.
        flare: strength of the pale crescent of light at the border.
        flare_angle: direction in which the flare lies, radians.
        flare_colour: colour of the flare.
        blur: defocus, in thousandths of the image's side (standard deviation).
        noise: sensor noise, standard deviation.
        surround: brightness outside the field.
    """

    centre: tuple[float, float]
    angle: float
    radius: float
    band: float
    gain: tuple[float, float, float]
    gamma: float
    falloff: float
    tilt: tuple[float, float]
    flare: float
    flare_angle: float
    flare_colour: tuple[float, float, float]
    blur: float
    noise: float
    surround: float

    def canvas(self, size: int) -> Canvas:
        """An empty canvas of `size` x `size` pixels with the part of the retina that this camera sees."""
        return Canvas(size, size / 2 * self.radius / self.angle, self.centre)


def sample_camera(rng: np.random.Generator, fovea: tuple[float, float], view_weights: tuple[float, ...]) -> Camera:
    """Draw an exposure; `view_weights` are the odds of `VIEWS`."""
    view = VIEWS[rng.choice(3, p=np.asarray(view_weights) / sum(view_weights))]
    aim = {"standard": (0.5 * fovea[0], 0.5 * fovea[1]), "macula": fovea, "disc": (0.15, 0.0)}[view]
    jitter = rng.normal(0, 0.22, 2)
    warmth, tint, exposure = rng.normal(0, 0.09), rng.normal(0, 0.06), rng.normal(0, 0.13)
    direction = rng.uniform(0, 2 * np.pi)
    tilt = rng.uniform(0, 0.28)
    gain = np.exp(np.array([exposure + 0.5 * warmth, exposure + tint, exposure - warmth - 0.5 * tint]))
    return Camera(
        centre=(aim[0] + jitter[0], aim[1] + jitter[1]),
        angle=rng.uniform(2.3, 3.0) if view == "disc" else rng.uniform(2.9, 3.8),
        radius=rng.uniform(0.86, 0.99),
        band=rng.uniform(0.72, 0.9) if rng.random() < 0.25 else 1.5,
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        gamma=float(np.exp(rng.normal(0, 0.13))),
        falloff=rng.uniform(0.1, 0.55),
        tilt=(tilt * np.cos(direction), tilt * np.sin(direction)),
        flare=max(0.0, rng.uniform(-1.2, 0.75)),
        flare_angle=rng.uniform(0, 2 * np.pi),
        flare_colour=((0.80, 0.88, 0.80), (0.88, 0.90, 0.62), (0.62, 0.72, 0.80))[rng.integers(3)],
        blur=rng.uniform(0.5, 5.0),
        noise=rng.uniform(0.006, 0.03),
        surround=rng.uniform(0.0, 0.03),
    )


def expose(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> Array:
    """Turn the painted retina into a photograph, (size, size, 3) uint8."""
    steps = ((np.arange(canvas.size) + 0.5) / canvas.size * 2 - 1).astype(np.float32) / np.float32(camera.radius)
    x, y = steps[None, :], steps[:, None]
    radius = np.hypot(x, y)
    light = (1 - camera.falloff * radius**2) * (1 + camera.tilt[0] * x + camera.tilt[1] * y)
    image = blurred(canvas.rgb, camera.blur / 1000 * canvas.size)
    image = np.clip(image * light[..., None] * np.asarray(camera.gain, np.float32), 0, None) ** np.float32(camera.gamma)
    if camera.flare:
        beside = (x * np.cos(camera.flare_angle) + y * np.sin(camera.flare_angle) + radius) / 2
        cover = smoothstep((beside - 0.55) / 0.5) * np.float32(camera.flare)
        image += cover[..., None] * (np.asarray(camera.flare_colour, np.float32) - image)
    # Highlights saturate softly, as film and sensors do.
    image = np.where(image > 0.8, 0.8 + 0.2 * np.tanh((image - 0.8) / 0.2), image)
    image += (
        np.float32(camera.noise)
        * rng.standard_normal(image.shape, dtype=np.float32)
        * (0.4 + 0.6 * np.clip(image, 0, 1))
    )
    pixel = 2 / canvas.size / camera.radius
    field = np.clip((1 - radius) / pixel + 0.5, 0, 1) * (np.abs(y) * camera.radius < camera.band)
    image = image * field[..., None] + camera.surround * (1 - field[..., None])
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def in_field(camera: Camera, size: int) -> Array:
    """Which pixels of an image show the eye and not what surrounds the field, (size, size)."""
    steps = ((np.arange(size) + 0.5) / size * 2 - 1) / camera.radius
    inside = np.hypot(steps[None, :], steps[:, None]) < 1
    return np.asarray(inside & (np.abs(steps[:, None]) * camera.radius < camera.band))


def blurred(rgb: Array, sigma: float) -> Array:
    """Gaussian blur of an image, (size, size, 3), by `sigma` pixels."""
    if sigma < 0.2:
        return rgb
    return np.asarray(gaussian_filter(rgb, (sigma, sigma, 0), truncate=3.0))
