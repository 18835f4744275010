"""Findings of choroid and pigment, and inflammation: myopia, tessellation, retinitis, scars."""

from dataclasses import replace

import numpy as np

from mgll.synthetic import marks
from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.canvas import MELANIN
from mgll.synthetic.marks import Eye, Rng


def tessellated(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Tessellation: little pigment, so that the choroidal vessels show."""
    return replace(anatomy, tessellation=rng.uniform(0.45, 1.0))


def myopic(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Myopia: leopard fundus, tilted oval disc with a broad temporal crescent, straightened vessels."""
    return replace(
        anatomy,
        tessellation=rng.uniform(0.3, 0.9),
        disc_width=anatomy.disc_width * rng.uniform(0.68, 0.85),
        disc_height=anatomy.disc_height * rng.uniform(1.0, 1.1),
        disc_tilt=rng.normal(0, 0.3),
        crescent=rng.uniform(0.16, 0.7),
        crescent_angle=rng.normal(0, 0.35),
        tortuosity=anatomy.tortuosity * 0.6,
    )


def myopic_atrophy(eye: Eye, rng: Rng) -> None:
    """Myopia, in half of the eyes: patches of chorioretinal atrophy, sometimes lacquer cracks."""
    canvas, severity = eye.canvas, rng.random()
    if severity > 0.5:
        for x, y in zip(*marks.places(eye, rng, 1 + int(6 * (severity - 0.5)), 0.6), strict=True):
            size = rng.uniform(0.2, 0.65)
            outline = canvas.ragged(rng, x, y, 0.16)
            patch = canvas.blob(x, y, size, size * rng.uniform(0.6, 1), rng.uniform(0, 3), 0.08, outline)
            canvas.paint(patch, (0.96, 0.88, 0.66), 0.75)
            canvas.absorb(patch * np.clip(canvas.noise(rng, 0.18) - 1.1, 0, 1), 1.2, MELANIN)
    if severity > 0.35:
        for _ in range(int(rng.integers(1, 4))):
            s, angle, length = np.linspace(-0.5, 0.5, 50), rng.uniform(0, np.pi), rng.uniform(0.4, 1.3)
            bend = 0.07 * np.sin(5 * s + rng.uniform(0, 6)) + 0.03 * np.sin(13 * s + rng.uniform(0, 6))
            (x,), (y,) = marks.around(rng, *eye.anatomy.fovea, 0.4, 1)
            x = x + length * (s * np.cos(angle) - bend * np.sin(angle))
            y = y + length * (s * np.sin(angle) + bend * np.cos(angle))
            canvas.paint(canvas.stamp(x, y, 0.032 * (1 - np.abs(s)), soft=0.02), (0.95, 0.80, 0.52), 0.5)


def retinitis(eye: Eye, rng: Rng) -> None:
    """Retinitis: fluffy white necrotic retina along a vessel, blood in and beside it, hazy vitreous over it."""
    canvas, trunks = eye.canvas, eye.tree[0]
    for _ in range(int(rng.integers(1, 3))):
        row, point = rng.integers(4 if rng.random() < 0.8 else 8), rng.integers(16, 38)
        x, y, size = float(trunks.x[row, point]), float(trunks.y[row, point]), rng.uniform(0.4, 0.85)
        outline = 0.4 * canvas.noise(rng, 0.3, 2)
        patch = canvas.blob(x, y, size * 1.3, size, float(trunks.heading[row, point]), 0.45, outline)
        canvas.paint(patch, (0.95, 0.90, 0.74), 0.82)
        count = int(rng.integers(10, 28))
        marks.blots(eye, rng, *marks.around(rng, x, y, 0.65 * size, count // 2), 0.08)
        marks.flames(eye, rng, *marks.around(rng, x, y, 0.7 * size, count), 0.3)
        haze = canvas.blob(x, y, size * 2.6, edge=0.9)
        canvas.paint(haze, (0.74, 0.68, 0.55), 0.38)


def chorioretinitis(eye: Eye, rng: Rng) -> None:
    """Chorioretinitis: yellow-white lesions deep to the vessels, rimmed and clumped with black pigment, with exudates."""
    canvas = eye.canvas
    x, y = marks.places(eye, rng, 1, 0.5)
    count = int(rng.integers(2, 6))
    for cx, cy in zip(*marks.around(rng, float(x[0]), float(y[0]), 0.55, count), strict=True):
        size = rng.uniform(0.18, 0.5)
        outline = canvas.ragged(rng, cx, cy, 0.13) + 0.06 * canvas.noise(rng, 0.15)
        whole = canvas.blob(cx, cy, size * 1.2, edge=0.12, wobble=outline)
        inner = canvas.blob(cx, cy, size * 0.95, edge=0.2, wobble=outline)
        rim = np.clip(whole - inner, 0, 1) * np.clip(0.5 + 0.6 * canvas.noise(rng, 0.22), 0, 1)
        canvas.absorb(rim, rng.uniform(0.6, 1.5), MELANIN)
        canvas.paint(inner, (0.95, 0.84, 0.56), rng.uniform(0.5, 0.78))
        canvas.absorb(inner * np.clip(canvas.noise(rng, 0.13) - 0.8, 0, 1), 2.2, MELANIN)
    marks.exudate_rings(eye, rng, x, y, 0.9)


def laser_scars(eye: Eye, rng: Rng) -> None:
    """Laser scars: rows of round pale burns off the macula, many with a black centre."""
    canvas = eye.canvas
    step = rng.uniform(0.34, 0.5)
    grid = np.arange(-5, 5, step)
    x, y = (g.ravel() + rng.normal(0, 0.08, g.size) for g in np.meshgrid(grid + 1, grid))
    keep = (eye.from_fovea(x, y) > rng.uniform(1.6, 2.3)) & (np.hypot(x, y) > 1.0) & (rng.random(x.size) < 0.75)
    x, y = x[keep], y[keep]
    radius = rng.uniform(0.08, 0.15, x.size)
    canvas.paint(canvas.stamp(x, y, radius, rng.uniform(0.4, 1, x.size), 0.03), (0.94, 0.86, 0.58), 0.62)
    dark = rng.random(x.size) < rng.uniform(0.2, 0.8)
    canvas.absorb(canvas.stamp(x[dark], y[dark], radius[dark] * 0.55, soft=0.03), 1.0, MELANIN)


def bone_spicules(eye: Eye, rng: Rng) -> None:
    """Retinitis pigmentosa: black star-shaped clumps in a ring towards the periphery."""
    count, arms = int(rng.integers(40, 90)), 4
    x, y = marks.places(eye, rng, count, 1.0, off_macula=1.6)
    angle = rng.uniform(0, 2 * np.pi, (len(x), arms, 1))
    reach = np.linspace(0, 1, 8) * rng.uniform(0.08, 0.22, (len(x), arms, 1))
    bend = angle + 2.5 * reach
    cx, cy = x[:, None, None] + reach * np.cos(bend), y[:, None, None] + reach * np.sin(bend)
    eye.canvas.absorb(eye.canvas.stamp(cx, cy, 0.03 * (1.2 - reach / 0.25), soft=0.01), 1.4, MELANIN)


def waxy(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Retinitis pigmentosa: thin vessels, waxy disc."""
    return replace(
        anatomy,
        artery_width=anatomy.artery_width * 0.5,
        vein_width=anatomy.vein_width * 0.75,
        disc_colour=(0.95, 0.80, 0.56),
    )


def tortuous(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Tortuous vessels."""
    return replace(anatomy, tortuosity=rng.uniform(3.0, 4.5))
