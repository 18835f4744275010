"""Findings of the eye's media, between retina and camera: cataract, media haze, asteroid hyalosis."""

import numpy as np

from mgll.synthetic import marks
from mgll.synthetic.camera import blurred
from mgll.synthetic.canvas import smoothstep
from mgll.synthetic.marks import Eye, Rng


def cataract(eye: Eye, rng: Rng) -> None:
    """Cataract: the lens scatters; the whole picture is blurred alike, veiled, yellowish and dim."""
    canvas, severity = eye.canvas, rng.beta(1.3, 1.3)
    canvas.rgb = blurred(canvas.rgb, canvas.size * (0.004 + 0.022 * severity))
    veil = np.array([(0.62, 0.52, 0.28), (0.66, 0.60, 0.44), (0.50, 0.46, 0.24)][rng.integers(3)])
    canvas.paint(np.ones((canvas.size, canvas.size), np.float32), veil, 0.12 + 0.58 * severity)
    canvas.rgb *= np.array([1.0, 0.97, 0.80], np.float32) * np.float32(rng.uniform(0.72, 0.95))


def media_haze(eye: Eye, rng: Rng) -> None:
    """Media haze: opacities float in front of a retina that is sharp between them, grey clouds, unfocused pale discs."""
    canvas = eye.canvas
    cloud = np.zeros((canvas.size, canvas.size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        angle, away = rng.uniform(0, 2 * np.pi), eye.camera.angle * 0.75 * np.sqrt(rng.random())
        x, y = eye.camera.centre[0] + away * np.cos(angle), eye.camera.centre[1] + away * np.sin(angle)
        size = rng.uniform(0.7, 1.9)
        wobble = 0.3 * canvas.noise(rng, 0.8, 2)
        cloud = np.maximum(cloud, canvas.blob(x, y, size, size * rng.uniform(0.5, 1), rng.uniform(0, 3), 0.85, wobble))
    cloud *= np.float32(rng.uniform(0.4, 0.95))
    soft = blurred(canvas.rgb, 0.03 * canvas.size)
    canvas.rgb += cloud[..., None] * (soft - canvas.rgb)
    shade = rng.uniform(0.42, 0.85)
    canvas.paint(cloud, np.array([1.0, 0.97, 0.93]) * shade, 0.72)
    count = int(rng.integers(0, 7))
    x, y = marks.places(eye, rng, count, 1.0)
    ghosts = canvas.stamp(x, y, rng.uniform(0.08, 0.25, len(x)), rng.uniform(0.3, 0.8, len(x)), 0.05)
    canvas.paint(ghosts, (0.90, 0.86, 0.80), 0.45)


def aged_lens(eye: Eye, rng: Rng) -> None:
    """No AMD: the faint even yellowing of an old but clear lens."""
    canvas = eye.canvas
    canvas.rgb *= np.array([0.98, 0.93, rng.uniform(0.66, 0.8)], np.float32)


def asteroid_hyalosis(eye: Eye, rng: Rng) -> None:
    """Asteroid hyalosis: many creamy specks at all depths of the vitreous."""
    canvas, count = eye.canvas, int(rng.integers(60, 200))
    reach = eye.camera.angle
    x = eye.camera.centre[0] + rng.uniform(-reach, reach, count)
    y = eye.camera.centre[1] + rng.uniform(-reach, reach, count)
    crowd = smoothstep(rng.normal(0.5, 0.3, count))
    mask = canvas.stamp(x, y, rng.uniform(0.03, 0.075, count), crowd, soft=0.03)
    canvas.paint(mask, (0.95, 0.90, 0.72), 0.75)
