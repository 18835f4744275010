"""What an eye without disease is made of, and its painting: fundus background, macula and optic disc."""

from dataclasses import dataclass

import numpy as np

from mgll.synthetic.canvas import MELANIN, Canvas

Colour = tuple[float, float, float]

#: Fundus colours that the background mixes: orange, red, brown, pale pink, yellow-brown.
FUNDUS_COLOURS = np.array(
    [(0.86, 0.47, 0.20), (0.74, 0.33, 0.15), (0.55, 0.34, 0.19), (0.84, 0.55, 0.42), (0.68, 0.50, 0.26)]
)


@dataclass(frozen=True)
class Anatomy:
    """The parameters of one eye; a finding may replace some of them. Lengths are in disc diameters.

    Attributes:
        background: colour of the fundus.
        melanin: darkening of the macula and of the gaps between choroidal vessels, 0..1.
        tessellation: how far the choroidal vessels show, 0..1.
        mottling: graininess of the pigment epithelium, 0..1.
        fovea: position of the fovea.
        foveal_reflex: brightness of the fovea's point reflex, 0..1.
        disc_width: horizontal diameter of the disc.
        disc_height: vertical diameter of the disc.
        disc_tilt: rotation of the disc's ellipse, radians.
        disc_edge: softness of the disc's border as a share of its radius.
        disc_colour: colour of the neuroretinal rim.
        cup_width: horizontal diameter of the cup over that of the disc.
        cup_height: vertical diameter of the cup over that of the disc.
        cup_centre: centre of the cup, as a share of the disc's radius.
        cup_pallor: contrast of the cup, 0..1.
        notch: how far the cup reaches the rim at `notch_angle`, 0..1.
        notch_angle: direction of the notch, radians.
        crescent: width of peripapillary atrophy.
        crescent_angle: direction in which the atrophy is widest, radians.
        artery_width: widest radius of an artery.
        vein_width: widest radius of a vein.
        tortuosity: bending of the vessels, 1 is usual.
        vein_tortuosity: factor by which veins bend more than arteries.
        arcade: height of the temporal arcades.
        reflex: brightness of the arteries' light reflex, 0..1.
        copper: how broad and coppery the arteries' light reflex is, 0..1.
        beading: unevenness of the veins' width, 0..1.
        nicking: narrowing of veins where arteries cross, 0..1.
    """

    background: Colour
    melanin: float
    tessellation: float
    mottling: float
    fovea: tuple[float, float]
    foveal_reflex: float
    disc_width: float
    disc_height: float
    disc_tilt: float
    disc_edge: float
    disc_colour: Colour
    cup_width: float
    cup_height: float
    cup_centre: tuple[float, float]
    cup_pallor: float
    artery_width: float
    vein_width: float
    tortuosity: float
    arcade: float
    reflex: float
    notch: float = 0.0
    notch_angle: float = 0.0
    crescent: float = 0.0
    crescent_angle: float = 0.0
    copper: float = 0.0
    beading: float = 0.0
    nicking: float = 0.0
    vein_tortuosity: float = 1.0


def sample_anatomy(person: np.random.Generator, rng: np.random.Generator) -> Anatomy:
    """Draw a healthy eye: what both eyes of a person share from `person`, the rest from `rng`."""
    mix = person.dirichlet(np.full(len(FUNDUS_COLOURS), 0.6))
    colour = mix @ FUNDUS_COLOURS * person.uniform(0.82, 1.1)
    melanin = person.uniform(0.25, 0.9)
    disc, ratio = rng.uniform(0.86, 1.16), np.clip(rng.normal(0.36, 0.09), 0.12, 0.54)
    vessel = rng.uniform(0.85, 1.2)
    return Anatomy(
        background=(float(colour[0]), float(colour[1]), float(colour[2])),
        melanin=melanin,
        tessellation=float(np.clip(person.normal(0.08, 0.08), 0, 0.25)),
        mottling=rng.uniform(0.1, 0.5),
        fovea=(rng.uniform(2.3, 2.75), rng.uniform(0.05, 0.5)),
        foveal_reflex=max(0.0, rng.uniform(-0.6, 0.8)),
        disc_width=disc * rng.uniform(0.88, 0.98),
        disc_height=disc * rng.uniform(0.98, 1.08),
        disc_tilt=rng.normal(0, 0.15),
        disc_edge=rng.uniform(0.05, 0.13),
        disc_colour=(0.95, rng.uniform(0.60, 0.72), rng.uniform(0.34, 0.47)),
        cup_width=ratio,
        cup_height=ratio * rng.uniform(0.92, 1.08),
        cup_centre=(rng.uniform(0.02, 0.16), rng.uniform(-0.05, 0.05)),
        cup_pallor=rng.uniform(0.55, 0.95),
        crescent=max(0.0, rng.normal(-0.03, 0.05)),
        crescent_angle=rng.normal(0, 0.5),
        artery_width=0.033 * vessel,
        vein_width=0.044 * vessel * rng.uniform(0.95, 1.1),
        tortuosity=rng.uniform(0.6, 1.6),
        arcade=rng.uniform(1.85, 2.5),
        reflex=rng.uniform(0.15, 0.5),
    )


def paint_background(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Fill the canvas with pigmented retina, choroid and macula."""
    canvas.rgb[:] = np.asarray(anatomy.background, np.float32)
    canvas.rgb *= 1 + 0.05 * canvas.noise(rng, 2.0, 2)[..., None]
    grain = canvas.noise(rng, 0.11, 2)
    canvas.absorb(np.clip(grain, 0, 3), 0.05 * anatomy.mottling, MELANIN)
    _paint_choroid(canvas, anatomy, rng)
    spot = canvas.distance(*anatomy.fovea)
    macula = 0.45 * np.exp(-((spot / 1.0) ** 2)) + 0.55 * np.exp(-((spot / 0.36) ** 2))
    canvas.absorb(macula, 0.25 + 0.55 * anatomy.melanin, (0.8, 1.05, 0.8))
    canvas.paint(np.exp(-((spot / 0.055) ** 2)), (1.0, 0.9, 0.75), 0.45 * anatomy.foveal_reflex)
    # The nerve fibre layer is thickest round the disc and gives a pale sheen there.
    sheen = np.exp(-((canvas.distance(0, 0) / 1.25) ** 2))
    canvas.paint(sheen, (0.98, 0.78, 0.5), 0.16)


def _paint_choroid(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Choroidal vessels: broad pale ribbons with dark islands between, seen where the pigment above is thin."""
    count, points = 120, 60
    middle_x, middle_y = (aim + rng.uniform(-3.6, 3.6, (count, 1)) for aim in canvas.centre)
    # They fan out from the posterior pole towards the vortex veins, two of which lie above and two below.
    heading = np.arctan2(1.5 * middle_y, middle_x - 1.2) + rng.normal(0, 0.5, (count, 1))
    s = np.linspace(-0.5, 0.5, points)
    length, phase = rng.uniform(1.8, 5.0, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 2))
    sway = 0.11 * np.sin(4 * s * length + phase[:, :1]) + 0.06 * np.sin(9 * s * length + phase[:, 1:])
    x = middle_x + s * length * np.cos(heading) - sway * np.sin(heading)
    y = middle_y + s * length * np.sin(heading) + sway * np.cos(heading)
    taper = np.sqrt(1 - (2 * np.abs(s)) ** 4)
    width, depth = rng.uniform(0.04, 0.095, (count, 1)), rng.uniform(0.4, 1, (count, 1))
    ribbons = canvas.stamp(x, y, width * taper, depth * taper, soft=0.045)
    # Macular pigment hides the choroid in the middle of the macula.
    seen = anatomy.tessellation * (1 - 0.65 * np.exp(-((canvas.distance(*anatomy.fovea) / 0.7) ** 2)))
    seen = seen * np.clip(0.85 + 0.3 * canvas.noise(rng, 1.5), 0.2, 1.2)
    canvas.absorb((1 - ribbons) * seen, 0.35 + 0.45 * anatomy.melanin, MELANIN)
    canvas.paint(ribbons * seen, (0.92, 0.50, 0.27), 0.38)


def paint_disc(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Paint the optic disc with its cup, and peripapillary atrophy where the eye has it."""
    width, height = anatomy.disc_width / 2, anatomy.disc_height / 2
    if anatomy.crescent > 0.02:
        shift = 0.8 * anatomy.crescent
        wobble = canvas.ragged(rng, 0.0, 0.0, 0.05)
        atrophy = canvas.blob(
            shift * np.cos(anatomy.crescent_angle),
            shift * np.sin(anatomy.crescent_angle),
            width + anatomy.crescent * 0.75,
            height + anatomy.crescent * 0.6,
            edge=0.06,
            wobble=wobble,
        )
        canvas.paint(atrophy, (0.95, 0.82, 0.60), 0.72)
        canvas.absorb(atrophy * np.clip(canvas.noise(rng, 0.25), 0, 2), 0.22, MELANIN)
    disc = canvas.blob(0, 0, width, height, anatomy.disc_tilt, anatomy.disc_edge)
    canvas.paint(disc, anatomy.disc_colour, 0.9)
    # The nasal rim is thicker and redder than the temporal one.
    nasal = disc * np.clip(0.35 - 0.9 * canvas.x / anatomy.disc_width, 0, 1)
    canvas.absorb(nasal, 0.22, (0.2, 1.0, 1.2))
    canvas.paint(cup_mask(canvas, anatomy), (1.0, 0.95, 0.76), anatomy.cup_pallor)


def cup_mask(canvas: Canvas, anatomy: Anatomy) -> np.ndarray:
    """Mask of the cup, (size, size) in 0..1: an ellipse inside the disc, with a notch towards the rim where there is one."""
    width, height = anatomy.disc_width / 2, anatomy.disc_height / 2
    x, y = anatomy.cup_centre[0] * width, anatomy.cup_centre[1] * height
    # A wide cup cannot lie off centre: it would cross the border of the disc.
    x, y = x * (1 - anatomy.cup_width), y * (1 - anatomy.cup_height)
    cup = canvas.blob(x, y, anatomy.cup_width * width, anatomy.cup_height * height, anatomy.disc_tilt, 0.16)
    if anatomy.notch:
        reach = 0.42 + 0.22 * anatomy.notch
        notch = canvas.blob(
            reach * np.cos(anatomy.notch_angle) * anatomy.disc_width,
            reach * np.sin(anatomy.notch_angle) * anatomy.disc_height,
            0.30 * anatomy.disc_width,
            0.16 * anatomy.disc_width,
            anatomy.notch_angle,
            0.25,
        )
        cup = np.maximum(cup, notch * canvas.blob(0, 0, width * 0.99, height * 0.99, anatomy.disc_tilt, 0.05))
    return cup
