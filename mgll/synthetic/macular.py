"""Findings of the macula and the layers under the retina: drusen, degeneration, neovascularization, fluid."""

import numpy as np

from mgll.synthetic import marks
from mgll.synthetic.canvas import MELANIN
from mgll.synthetic.marks import Eye, Rng


def drusen(eye: Eye, rng: Rng) -> None:
    """Drusen: small, discrete, yellow, round deposits around the macula."""
    _deposits(eye, rng, int(rng.integers(25, 90)), rng.uniform(0.45, 1.0), rng.uniform(0.04, 0.065))


def _deposits(eye: Eye, rng: Rng, count: int, spread: float, largest: float) -> None:
    x, y = marks.around(rng, *eye.anatomy.fovea, spread, count)
    good = np.hypot(x, y) > 0.7
    radius = largest * rng.uniform(0.4, 1, count)
    mask = eye.canvas.stamp(x[good], y[good], radius[good], rng.uniform(0.5, 1, good.sum()), soft=0.02)
    eye.canvas.paint(mask, marks.DRUSE, 0.68)


def dry_degeneration(eye: Eye, rng: Rng) -> None:
    """Dry AMD: large confluent drusen, pigment mottling, and in advanced eyes a sharp patch of geographic atrophy."""
    canvas, (fx, fy) = eye.canvas, eye.anatomy.fovea
    severity = rng.random()
    _deposits(eye, rng, int(rng.integers(15, 60)), rng.uniform(0.35, 0.7), rng.uniform(0.08, 0.14))
    zone = canvas.blob(fx, fy, rng.uniform(0.6, 1.0), edge=0.6)
    clumps = zone * np.clip(canvas.noise(rng, 0.16) - 0.5, 0, 2)
    canvas.absorb(clumps, 0.3 + 0.3 * severity, MELANIN)
    if severity > 0.5:
        size = rng.uniform(0.3, 0.8) * severity
        x, y = fx + rng.normal(0, 0.15), fy + rng.normal(0, 0.1)
        atrophy = canvas.blob(x, y, size, edge=0.07, wobble=canvas.ragged(rng, x, y, 0.13))
        canvas.paint(atrophy, (0.93, 0.70, 0.44), 0.62)
        canvas.paint(atrophy * np.exp(-((canvas.noise(rng, 0.3) / 0.25) ** 2)), (0.80, 0.34, 0.18), 0.55)


def neovascular_membrane(eye: Eye, rng: Rng) -> None:
    """CN: a grey-green membrane under the macula, dark subretinal blood at its border, fluid round it."""
    canvas, (fx, fy) = eye.canvas, eye.anatomy.fovea
    x, y = fx + rng.normal(0, 0.25), fy + rng.normal(0, 0.2)
    size = rng.uniform(0.3, 0.6)
    canvas.paint(canvas.blob(x, y, size * 2.1, size * 1.8, edge=0.35), (0.80, 0.62, 0.38), 0.32)
    angle = rng.uniform(0, 2 * np.pi)
    outline = canvas.ragged(rng, x, y, 0.2) + 0.1 * canvas.noise(rng, 0.2)
    blood = canvas.blob(
        x + 0.55 * size * np.cos(angle), y + 0.55 * size * np.sin(angle), 1.35 * size, 0.95 * size, angle, 0.18, outline
    )
    canvas.absorb(blood, rng.uniform(0.5, 1.1), (0.6, 1.4, 1.2))
    membrane = canvas.blob(x, y, size, size * rng.uniform(0.7, 1), angle, 0.35, canvas.ragged(rng, x, y, 0.15))
    canvas.paint(membrane, (0.64, 0.60, 0.42), rng.uniform(0.5, 0.8))


def wet_degeneration(eye: Eye, rng: Rng) -> None:
    """Wet AMD: a neovascular membrane, with drusen beside it and exudates around it."""
    _deposits(eye, rng, int(rng.integers(8, 30)), 0.8, 0.09)
    neovascular_membrane(eye, rng)
    count, size = int(rng.integers(0, 45)), rng.uniform(0.7, 1.2)
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, 3.5, count)
    radius = size * rng.normal(1, 0.12, count)
    x, y = eye.anatomy.fovea[0] + radius * np.cos(angle), eye.anatomy.fovea[1] + radius * np.sin(angle)
    marks.exudates(eye, rng, x, y, 0.06)


def serous_dome(eye: Eye, rng: Rng) -> None:
    """CSR: a round blister of clear fluid in the macula with a bright ring reflex, duller inside the ring."""
    canvas = eye.canvas
    x, y = eye.anatomy.fovea[0] + rng.normal(0, 0.22), eye.anatomy.fovea[1] + rng.normal(0, 0.18)
    size, aspect, angle = rng.uniform(0.6, 1.1), rng.uniform(0.8, 1.0), rng.uniform(0, np.pi)
    inside = canvas.blob(x, y, size, size * aspect, angle, 0.14, 0.04 * canvas.noise(rng, 0.6))
    larger = canvas.blob(x, y, size * 1.12, size * 1.12 * aspect, angle, 0.14)
    canvas.paint(inside, (0.70, 0.46, 0.24), rng.uniform(0.25, 0.45))
    canvas.absorb(inside, rng.uniform(0.05, 0.3), (0.5, 0.6, 0.3))
    # Light catches the slope of the blister on one side more than on the other.
    lit = np.clip(0.75 + 0.45 * canvas.noise(rng, 1.1), 0, 1)
    canvas.paint(np.clip(larger - inside, 0, 1) * lit, (0.98, 0.82, 0.55), rng.uniform(0.3, 0.65))
    count = int(rng.integers(0, 22))
    dx, dy = marks.around(rng, x, y, 0.35 * size, count)
    canvas.paint(canvas.stamp(dx, dy, np.full(count, 0.026), soft=0.015), marks.EXUDATE, 0.6)


def macular_hole(eye: Eye, rng: Rng) -> None:
    """Macular hole: a small sharp round defect in the fovea with a grey cuff."""
    canvas, (fx, fy) = eye.canvas, eye.anatomy.fovea
    size = rng.uniform(0.13, 0.22)
    canvas.paint(canvas.blob(fx, fy, size * 2.0, edge=0.25), (0.72, 0.58, 0.44), 0.55)
    canvas.paint(canvas.blob(fx, fy, size, edge=0.08), (0.58, 0.10, 0.06), 0.85)


def epiretinal_membrane(eye: Eye, rng: Rng) -> None:
    """ERM: a glistening sheet over the macula with fine folds that run together."""
    canvas = eye.canvas
    x, y = eye.anatomy.fovea[0] + rng.normal(0, 0.3), eye.anatomy.fovea[1] + rng.normal(0, 0.3)
    sheet = canvas.blob(x, y, rng.uniform(0.8, 1.4), edge=0.5, wobble=0.25 * canvas.noise(rng, 0.6))
    # Folds run towards a point of contraction beside the macula.
    pull = rng.uniform(0, 2 * np.pi)
    bearing = np.arctan2(canvas.y - y - 1.1 * np.sin(pull), canvas.x - x - 1.1 * np.cos(pull))
    folds = np.clip(np.cos((bearing + 0.12 * canvas.noise(rng, 0.4)) * rng.integers(16, 26)), 0, 1) ** 3
    canvas.paint(sheet, (0.85, 0.80, 0.66), 0.28)
    canvas.paint(sheet * folds * np.clip(0.3 + canvas.noise(rng, 0.35), 0, 1), (0.97, 0.95, 0.85), 0.45)
