"""Draw one eye: anatomy, findings layer by layer, photograph."""

import zlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from PIL import Image

from mgll.synthetic.anatomy import Anatomy, cup_mask, paint_background, paint_disc, sample_anatomy
from mgll.synthetic.camera import VIEWS, Camera, View, expose, in_field, sample_camera
from mgll.synthetic.compatibility import check_labels, drawn_codes
from mgll.synthetic.findings import FINDINGS, Finding
from mgll.synthetic.marks import Eye
from mgll.synthetic.vessels import grow_vessels, paint_vessels

Laterality = Literal["left", "right"]
#: The smallest size at which a microaneurysm still darkens a pixel.
SMALLEST = 32


def draw_eye(
    labels: Iterable[str],
    seed: int,
    size: int = 128,
    *,
    laterality: Laterality | None = None,
    person: int | None = None,
    view: View | None = None,
) -> Image.Image:
    """Draw an eye with these findings; the same arguments give the same pixels.

    Anatomy, camera and each finding have random streams of their own, so that taking one finding away leaves the rest of the
    eye as it was.

    Args:
        labels: class codes of `mgll.vocabulary`; none means a healthy eye.
        seed: seed of everything random.
        size: height and width of the image in pixels.
        laterality: which eye; the right one is the mirror image of the left. Drawn from `seed` if None.
        person: seed of what both eyes of a person share (pigmentation); `seed` if None.
        view: where the camera looks; drawn by the odds of the findings if None.

    Returns:
        An RGB image of `size` x `size` pixels.

    Raises:
        ValueError: for an unknown code, labels that cannot stand together, or a size below 32.
    """
    if size < SMALLEST:
        raise ValueError(f"size is {size}; the smallest that shows lesions is {SMALLEST}")
    found, anatomy, camera = _scene(tuple(labels), seed, person, view)
    canvas = camera.canvas(size)
    eye = Eye(canvas, anatomy, grow_vessels(anatomy, _stream(seed, "vessels")), camera)

    paint_background(canvas, anatomy, _stream(seed, "background"))
    _paint(eye, found, "deep", seed)
    paint_disc(canvas, anatomy, _stream(seed, "disc"))
    paint_vessels(canvas, anatomy, eye.tree)
    _paint(eye, found, "shallow", seed)
    _paint(eye, found, "media", seed)
    pixels = expose(canvas, camera, _stream(seed, "exposure"))
    return Image.fromarray(_as_seen(pixels, seed, laterality))


def draw_masks(
    labels: Iterable[str],
    seed: int,
    size: int = 128,
    *,
    laterality: Laterality | None = None,
    person: int | None = None,
    view: View | None = None,
) -> dict[str, np.ndarray]:
    """Where optic disc and optic cup are in the eye that `draw_eye` draws of the same arguments: bool (size, size) each.

    The cup is a part of the disc; either may lie outside the field, or be hidden by what a finding paints over it.
    """
    _, anatomy, camera = _scene(tuple(labels), seed, person, view)
    canvas = camera.canvas(size)
    disc = (
        canvas.blob(0, 0, anatomy.disc_width / 2, anatomy.disc_height / 2, anatomy.disc_tilt, anatomy.disc_edge) >= 0.5
    )
    disc &= in_field(camera, size)
    cup = disc & (cup_mask(canvas, anatomy) >= 0.5)
    return {"optic disc": _as_seen(disc, seed, laterality), "optic cup": _as_seen(cup, seed, laterality)}


def _scene(
    labels: tuple[str, ...], seed: int, person: int | None, view: View | None
) -> tuple[list[tuple[Finding, str]], Anatomy, Camera]:
    """The findings, the eye and the exposure."""
    check_labels(labels)
    found = [(FINDINGS[code], code) for code in drawn_codes(labels)]
    anatomy = sample_anatomy(_stream(seed if person is None else person, "person"), _stream(seed, "anatomy"))
    for finding, code in found:
        if finding.reshape:
            anatomy = finding.reshape(anatomy, _stream(seed, code, "reshape"))
    odds = _views(finding for finding, _ in found) if view is None else tuple(float(view == name) for name in VIEWS)
    return found, anatomy, sample_camera(_stream(seed, "camera"), anatomy.fovea, odds)


def _as_seen(pixels: np.ndarray, seed: int, laterality: Laterality | None) -> np.ndarray:
    """Pixels (size, size, ...) of a left eye as they are, of a right one mirrored."""
    if (laterality or ("left", "right")[_stream(seed, "laterality").integers(2)]) == "right":
        return np.ascontiguousarray(pixels[:, ::-1])
    return pixels


def _stream(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def _paint(eye: Eye, found: list[tuple[Finding, str]], layer: str, seed: int) -> None:
    for finding, code in found:
        paint = getattr(finding, layer)
        if paint:
            paint(eye, _stream(seed, code, layer))


def _views(findings: Iterable[Finding]) -> tuple[float, ...]:
    """Odds of the views for several findings: each multiplies them, so that no finding is out of view."""
    odds = np.ones(3)
    for finding in findings:
        odds = odds * np.asarray(finding.views)
    if odds.sum() < 1e-6:
        return (1.0, 0.0, 0.0)
    return tuple(float(each) for each in odds)
