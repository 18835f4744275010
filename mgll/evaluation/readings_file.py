"""Readings in a file, so that towers and seeds can be compared without reading anything again: numpy's npz, no pickle."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mgll.evaluation.reading import Reading
from mgll.files import atomic_path
from mgll.formats import FormatError


def save_readings(path: str | os.PathLike[str], readings: Iterable[Reading]) -> None:
    """Write readings atomically; scores are kept in float32."""
    arrays: dict[str, Any] = {}
    said: list[dict[str, Any]] = []
    for number, reading in enumerate(readings):
        arrays[f"{number}.truth"], arrays[f"{number}.scores"] = reading.truth, reading.scores.astype(np.float32)
        said.append(
            {
                "name": reading.name,
                "classes": reading.classes,
                "images": reading.images,
                "patients": reading.patients,
                "left_out": dict(reading.left_out),
                "strength": reading.strength,
                "notes": reading.notes,
            }
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, readings=np.frombuffer(json.dumps(said).encode(), "u1"))


def load_readings(path: str | os.PathLike[str]) -> dict[str, Reading]:
    """The readings of a file by their names.

    Raises:
        FormatError: if the file is missing or was not written by `save_readings`.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            said = json.loads(file["readings"].tobytes())
            return {
                own["name"]: Reading(
                    name=own["name"],
                    classes=tuple(own["classes"]),
                    images=tuple(own["images"]),
                    patients=tuple((source, patient) for source, patient in own["patients"]),
                    truth=file[f"{number}.truth"],
                    scores=file[f"{number}.scores"],
                    left_out=own["left_out"],
                    strength=own["strength"],
                    notes=tuple(own["notes"]),
                )
                for number, own in enumerate(said)
            }
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise FormatError(path, None, f"no file of readings: {error}") from None
