"""Evaluations as files, so that towers can be compared later without being read again: an `.npz` without pickles."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mgll.evaluation.drawn_areas import Segmentation
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.reading import Reading
from mgll.evaluation.zero_shot import Retrieval
from mgll.files import atomic_path
from mgll.formats import FormatError

_SCHEMA = "mgll.evaluation/1"
_DRAWN = "mgll.segmentation/1"


def save_evaluation(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Write an evaluation atomically: truth and scores as arrays, everything else as JSON."""
    arrays: dict[str, np.ndarray] = {}
    readings = []
    for number, reading in enumerate(evaluation.readings.values()):
        arrays |= {f"truth-{number}": reading.truth, f"scores-{number}": reading.scores}
        readings.append({key: value for key, value in vars(reading).items() if key not in ("truth", "scores")})
    said: dict[str, Any] = {"schema": _SCHEMA, **vars(evaluation), "readings": readings}
    said["retrieval"] = [asdict(found) for found in evaluation.retrieval.values()]
    _write(path, said, arrays)


def load_evaluation(path: str | os.PathLike[str]) -> Evaluation:
    """Read what `save_evaluation` wrote.

    Raises:
        FormatError: if the file is missing, cut short, or something else.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            said = json.loads(str(file["said"]))
            if said.pop("schema") != _SCHEMA:
                raise ValueError("of another schema")
            readings = [_reading(own, file, number) for number, own in enumerate(said.pop("readings"))]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise FormatError(path, None, f"not an evaluation as recipes/evaluate_tower.py writes it ({error})") from None
    retrieval = {own["level"]: _retrieval(own) for own in said.pop("retrieval")}
    said["skipped"] = tuple(said["skipped"])
    return Evaluation(**said, readings={reading.name: reading for reading in readings}, retrieval=retrieval)


def save_segmentation(path: str | os.PathLike[str], found: Segmentation) -> None:
    """Write a segmentation atomically, as `save_evaluation` writes an evaluation."""
    said = {"schema": _DRAWN, **{key: value for key, value in vars(found).items() if key != "overlap"}}
    arrays: dict[str, np.ndarray] = {f"overlap-{label}": numbers for label, numbers in found.overlap.items()}
    _write(path, said, arrays)


def load_segmentation(path: str | os.PathLike[str]) -> Segmentation:
    """Read what `save_segmentation` wrote.

    Raises:
        FormatError: if the file is missing, cut short, or something else.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            said = json.loads(str(file["said"]))
            if said.pop("schema") != _DRAWN:
                raise ValueError("of another schema")
            overlap = {name.removeprefix("overlap-"): file[name] for name in file.files if name != "said"}
        images = {label: tuple(own) for label, own in said.pop("images").items()}
        patients = {label: tuple(map(tuple, own)) for label, own in said.pop("patients").items()}
        without = {label: tuple(own) for label, own in said.pop("without").items()}
        return Segmentation(**said, overlap=overlap, images=images, patients=patients, without=without)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise FormatError(path, None, f"not a segmentation as recipes/segment.py writes it ({error})") from None


def _reading(said: dict[str, Any], file: Any, number: int) -> Reading:
    said |= {name: tuple(said[name]) for name in ("classes", "images", "notes")}
    said["patients"] = tuple(tuple(patient) for patient in said["patients"])
    return Reading(**said, truth=file[f"truth-{number}"], scores=file[f"scores-{number}"])


def _retrieval(said: dict[str, Any]) -> Retrieval:
    shares = {name: {int(k): v for k, v in said[name].items()} for name in ("image_to_text", "text_to_image")}
    return Retrieval(**{**said, **shares, "median_ranks": tuple(said["median_ranks"])})


def _write(path: str | os.PathLike[str], said: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, and beside them what is said of them, as one file."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, said=np.array(json.dumps(said)), **arrays)  # type: ignore[arg-type]  # its stub names one argument
