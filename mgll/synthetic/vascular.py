"""Findings of the retinal vessels: diabetes, hypertension, arteriosclerosis, occlusions."""

from dataclasses import replace

import numpy as np

from mgll.synthetic import marks
from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.marks import Eye, Rng


def microaneurysms(eye: Eye, rng: Rng) -> None:
    """Mild NPDR: a few red dots, nothing else."""
    marks.dots(eye, rng, *marks.places(eye, rng, int(rng.integers(5, 16)), 0.8), 0.026, 0.048, 0.85)


def moderate_npdr(eye: Eye, rng: Rng) -> None:
    """Moderate NPDR: dots, some blots, exudates off the macula, now and then a cotton wool spot."""
    _background_retinopathy(eye, rng, dots=(12, 35), blots=(2, 9), rings=(0, 4), wool=(0, 3))


def severe_npdr(eye: Eye, rng: Rng) -> None:
    """Severe NPDR: many haemorrhages in all quadrants, more cotton wool (the veins are beaded, see `beaded`)."""
    _background_retinopathy(eye, rng, dots=(40, 90), blots=(14, 30), rings=(0, 5), wool=(2, 7))


def proliferative(eye: Eye, rng: Rng) -> None:
    """PDR: new vessels on the disc or elsewhere, often a preretinal haemorrhage, over moderate retinopathy."""
    _background_retinopathy(eye, rng, dots=(15, 45), blots=(3, 14), rings=(0, 3), wool=(0, 4))
    trunks = eye.tree[0]
    spots = [(0.0, 0.0)] if rng.random() < 0.5 else []
    for _ in range(int(rng.integers(1, 4))):
        row, point = rng.integers(len(trunks.vein)), rng.integers(12, 34)
        spots.append((float(trunks.x[row, point]), float(trunks.y[row, point])))
    for x, y in spots:
        _new_vessels(eye, rng, x, y)
    if rng.random() < 0.65:
        preretinal_haemorrhage(eye, rng)


def _background_retinopathy(
    eye: Eye, rng: Rng, dots: tuple[int, int], blots: tuple[int, int], rings: tuple[int, int], wool: tuple[int, int]
) -> None:
    """Paint dots, blots, exudate rings and cotton wool; each pair is the least number of a mark and one more than the greatest."""
    marks.dots(eye, rng, *marks.places(eye, rng, int(rng.integers(*dots)), 0.9), 0.026, 0.06, 0.9)
    marks.blots(eye, rng, *marks.places(eye, rng, int(rng.integers(*blots)), 0.9), 0.07)
    # Exudates in the macula would be diabetic macular edema, a finding of its own.
    marks.exudate_rings(eye, rng, *marks.places(eye, rng, int(rng.integers(*rings)), 0.8, off_macula=1.7), 0.32)
    marks.cotton_wool(eye, rng, *marks.places(eye, rng, int(rng.integers(*wool)), 0.65, off_macula=0.8))


def _new_vessels(eye: Eye, rng: Rng, x: float, y: float) -> None:
    """A tuft of fine tangled vessels."""
    strands, points = 16, 34
    heading = rng.uniform(0, 2 * np.pi, (strands, 1)) + np.cumsum(rng.normal(0, 0.34, (strands, points)), axis=1)
    step = rng.uniform(0.016, 0.036, (strands, 1))
    cx, cy = x + np.cumsum(np.cos(heading) * step, axis=1), y + np.cumsum(np.sin(heading) * step, axis=1)
    eye.canvas.absorb(eye.canvas.stamp(cx, cy, np.full_like(cx, 0.013)), 0.8)


def preretinal_haemorrhage(eye: Eye, rng: Rng) -> None:
    """Preretinal haemorrhage: a boat-shaped pool with a level upper and a round lower border, which hides what lies below."""
    canvas = eye.canvas
    x, y = rng.uniform(0.6, 3.0), rng.uniform(0.9, 1.9) * rng.choice((-1, 1))
    width, height = rng.uniform(0.45, 1.0), rng.uniform(0.4, 0.75)
    bowl = canvas.blob(x, y, width, height, edge=0.08, wobble=0.04 * canvas.noise(rng, 0.5))
    level = np.clip((canvas.y - y + 0.12 * height + 0.03 * canvas.noise(rng, 0.5)) / 0.06 + 0.5, 0, 1)
    canvas.paint(bowl * level, (0.36, 0.05, 0.03), 0.88)


def beaded(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """Severe NPDR: veins of uneven width."""
    return replace(anatomy, beading=rng.uniform(0.3, 0.9), vein_width=anatomy.vein_width * 1.12)


def macular_edema(eye: Eye, rng: Rng) -> None:
    """DME: hard exudates within a disc diameter of the fovea, in a ring, a star or a patch, over thickened retina."""
    canvas, (fx, fy) = eye.canvas, eye.anatomy.fovea
    size = rng.uniform(0.45, 0.95)
    dome = canvas.blob(fx + rng.normal(0, 0.15), fy + rng.normal(0, 0.15), size * 1.15, edge=0.5)
    canvas.paint(dome, (0.84, 0.66, 0.42), 0.28)
    form, count = rng.choice(3), int(rng.integers(20, 75))
    if form == 0:
        angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(2.5, 6.3), count)
        radius = size * rng.normal(0.85, 0.14, count)
    elif form == 1:
        angle = np.round(rng.uniform(0, 16, count)) * (np.pi / 8) + rng.normal(0, 0.05, count)
        radius = rng.uniform(0.2, size, count)
    else:
        angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5, count)
        radius = size * rng.uniform(0.25, 1.0, count)
    marks.exudates(eye, rng, fx + radius * np.cos(angle), fy + radius * np.sin(angle), rng.uniform(0.05, 0.085))


def narrowed(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """HR: narrow arterioles."""
    return replace(anatomy, artery_width=anatomy.artery_width * rng.uniform(0.45, 0.65), nicking=rng.uniform(0, 0.5))


def hypertensive(eye: Eye, rng: Rng) -> None:
    """HR: cotton wool spots and flame haemorrhages round the disc."""
    severity = rng.random()
    angle = rng.uniform(0, 2 * np.pi, 14)
    radius = rng.uniform(0.85, 2.0, 14)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    wool, fire = 2 + int(5 * severity), 2 + int(rng.integers(0, 4 + int(5 * severity)))
    marks.cotton_wool(eye, rng, x[:wool], y[:wool])
    marks.flames(eye, rng, x[wool : wool + fire], y[wool : wool + fire], 0.38)


def sclerotic(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """AR: narrowed arteries with a broad coppery reflex, veins nicked where arteries cross them."""
    return replace(
        anatomy,
        artery_width=anatomy.artery_width * rng.uniform(0.75, 0.95),
        reflex=rng.uniform(1.0, 1.6),
        copper=rng.uniform(0.6, 1.0),
        nicking=rng.uniform(0.8, 0.97),
        tortuosity=anatomy.tortuosity * 1.25,
    )


def branch_vein_occlusion(eye: Eye, rng: Rng) -> None:
    """BRVO: haemorrhages fill the fan of one temporal vein up to the horizontal raphe."""
    arcade = rng.choice(2, p=(0.6, 0.4))
    trunks = eye.tree[0]
    row = int(np.flatnonzero(trunks.vein & (trunks.arcade == arcade))[0])
    down = 1 if trunks.y[row].mean() > 0 else -1
    start, count = int(rng.integers(5, 16)), int(rng.integers(30, 180))
    point = rng.integers(start, start + 30, count)
    x = trunks.x[row, point] + rng.normal(0, 0.38, count)
    y = trunks.y[row, point] + rng.normal(0, 0.5, count)
    keep = (y * down > 0.25) & (np.hypot(x, y) > 0.6)
    x, y = x[keep], y[keep]
    half = 2 * len(x) // 3
    stain = eye.canvas.stamp(x, y, np.full(len(x), 0.09), rng.uniform(0.2, 0.6, len(x)), soft=0.09)
    eye.canvas.absorb(stain, 0.7)
    marks.flames(eye, rng, x[:half], y[:half], 0.42, 0.9)
    marks.blots(eye, rng, x[half:], y[half:], 0.075)
    wool = int(rng.integers(0, 4))
    marks.cotton_wool(eye, rng, x[:wool], y[:wool])
    if rng.random() < 0.35:
        marks.exudate_rings(eye, rng, x[-2:], y[-2:], 0.4)


def congested(anatomy: Anatomy, rng: Rng) -> Anatomy:
    """CRVO: dilated winding veins and a swollen disc."""
    return replace(
        anatomy,
        vein_width=anatomy.vein_width * rng.uniform(1.25, 1.55),
        vein_tortuosity=rng.uniform(1.8, 2.8),
        disc_edge=rng.uniform(0.25, 0.45),
        cup_pallor=0.25,
        disc_colour=(0.95, 0.58, 0.36),
    )


def central_vein_occlusion(eye: Eye, rng: Rng) -> None:
    """CRVO: flame and blot haemorrhages in all four quadrants, densest round the disc."""
    count = int(rng.integers(45, 190))
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = 0.5 + (eye.camera.angle + 0.8) * rng.beta(1.2, 1.7, count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    half = 2 * count // 3
    marks.flames(eye, rng, x[:half], y[:half], 0.42, 0.95)
    marks.blots(eye, rng, x[half:], y[half:], 0.07)
    wool = int(rng.integers(0, 5))
    marks.cotton_wool(eye, rng, x[:wool], y[:wool])


def artery_occlusion(eye: Eye, rng: Rng) -> None:
    """CRAO: pale swollen posterior retina with a cherry-red spot."""
    distance = eye.canvas.distance(*eye.anatomy.fovea)
    eye.canvas.paint(marks.fade_inside(distance, 1.0, 1.3), (0.93, 0.84, 0.66), rng.uniform(0.5, 0.7))
    eye.canvas.paint(np.exp(-((distance / 0.25) ** 2)), (0.66, 0.12, 0.08), 0.85)
