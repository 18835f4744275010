"""Findings of the optic disc: cupping, glaucoma, swelling, pallor, myelinated fibres."""

from dataclasses import replace

import numpy as np

from mgll.synthetic import marks
from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.marks import Eye, Rng


def even_cup(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """No Glaucoma: a disc worth a second look (large), with a cup of normal size and an even rim."""
    ratio = rng.uniform(0.28, 0.46)
    return replace(
        anatomy,
        disc_width=rng.uniform(1.02, 1.15),
        disc_height=rng.uniform(1.08, 1.2),
        cup_width=ratio,
        cup_height=ratio,
        cup_pallor=0.9,
    )


def cupped(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """ODC: a large round cup inside an intact, evenly thin rim."""
    ratio = rng.uniform(0.62, 0.8)
    return replace(
        anatomy, cup_width=ratio, cup_height=ratio * rng.uniform(0.96, 1.04), cup_pallor=1.0, cup_centre=(0.0, 0.0)
    )


def glaucomatous(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Glaucoma: a tall cup that breaks through the rim below or above, a pale rim, a thin ring of atrophy."""
    tall = rng.uniform(0.74, 0.92)
    angle = rng.choice((1, 1, -1)) * (np.pi / 2 - rng.uniform(0.05, 0.6))
    return replace(
        anatomy,
        cup_height=tall,
        cup_width=tall * rng.uniform(0.76, 0.9),
        cup_pallor=1.0,
        cup_centre=(0.1, 0.0),
        notch=rng.uniform(0.5, 1.0),
        notch_angle=angle,
        crescent=max(anatomy.crescent, rng.uniform(-0.1, 0.2)),
        disc_colour=(0.97, 0.72, 0.50),
    )


def glaucoma_signs(eye: Eye, rng: Rng) -> None:
    """Glaucoma: often a dark wedge in the nerve fibre layer from the notch outwards, sometimes a splinter bleed."""
    canvas, angle = eye.canvas, eye.anatomy.notch_angle
    down = np.sign(np.sin(angle))
    if rng.random() < 0.65:
        # The fibres arch round the macula like the vessels do.
        x = np.clip(canvas.x, 0.02, None)
        arch = 0.85 * eye.anatomy.arcade * (1 - np.exp(-x / 0.9)) ** 0.62
        wedge = np.exp(-(((canvas.y * down - arch) / (0.10 + 0.10 * x)) ** 2)) * np.clip((canvas.x - 0.1) / 0.3, 0, 1)
        canvas.absorb(wedge * np.exp(-((x / 3.2) ** 2)), rng.uniform(0.2, 0.42), (0.7, 1.0, 0.7))
    if rng.random() < 0.4:
        bleed = angle + rng.normal(0, 0.35)
        edge = 0.53 * eye.anatomy.disc_height
        marks.flames(eye, rng, np.array([edge * np.cos(bleed)]), np.array([edge * np.sin(bleed)]), 0.3, 1.0)


def swollen(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """ODE: an enlarged, reddish disc without border or cup, full veins."""
    size = rng.uniform(1.2, 1.5)
    return replace(
        anatomy,
        disc_width=anatomy.disc_width * size,
        disc_height=anatomy.disc_height * size,
        disc_edge=rng.uniform(0.45, 0.75),
        disc_colour=(0.97, rng.uniform(0.58, 0.68), rng.uniform(0.38, 0.46)),
        cup_pallor=rng.uniform(0, 0.15),
        vein_width=anatomy.vein_width * rng.uniform(1.1, 1.3),
        vein_tortuosity=rng.uniform(1.0, 1.7),
        crescent=0.0,
    )


def swelling_signs(eye: Eye, rng: Rng) -> None:
    """ODE: opaque swollen fibres hide the vessels at the border; folds, bleeds and cotton wool where it is severe."""
    canvas, severity = eye.canvas, rng.random()
    distance = canvas.distance(0, 0)
    collar = np.exp(-(((distance - 0.62) / 0.24) ** 2)) * np.clip(0.7 + 0.4 * canvas.noise(rng, 0.2), 0, 1)
    canvas.paint(collar, (0.96, 0.76, 0.54), 0.62)
    folds = np.cos(distance * 38) * np.exp(-(((distance - 0.95) / 0.16) ** 2)) * (canvas.x > 0)
    canvas.absorb(np.clip(folds, 0, 1), 0.25 * severity)
    count = int(rng.integers(0, 3 + int(8 * severity)))
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.55, 1.0, count)
    marks.flames(eye, rng, radius * np.cos(angle), radius * np.sin(angle), 0.34)


def pale(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """ODP: a chalky disc with a sharp border and thin arteries."""
    white = rng.uniform(0.88, 0.96)
    return replace(
        anatomy,
        disc_colour=(0.98, white, white - rng.uniform(0.08, 0.16)),
        disc_edge=0.04,
        cup_pallor=0.35,
        artery_width=anatomy.artery_width * rng.uniform(0.7, 0.85),
    )


def myelinated_fibres(eye: Eye, rng: Rng) -> None:
    """MNF: white feathery patches along the fibres beside the disc, over the vessels."""
    angle = rng.choice((-1, 1)) * rng.uniform(0.7, 2.2)
    count = int(rng.integers(130, 280))
    start = angle + rng.normal(0, 0.3, (count, 1))
    reach = rng.uniform(0.42, 0.6, (count, 1)) + np.linspace(0, 1, 16) * rng.uniform(0.2, 1.0, (count, 1))
    turn = start - 0.25 * np.sin(start) * (reach - 0.5)
    mask = eye.canvas.stamp(
        reach * np.cos(turn), reach * np.sin(turn), np.full_like(reach, 0.022), rng.uniform(0.3, 1, (count, 1)), 0.015
    )
    eye.canvas.paint(mask, (0.97, 0.95, 0.84), 0.85)
