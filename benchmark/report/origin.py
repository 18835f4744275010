"""How the model behind a run was made, as far as the folders beside the run still say: fine-tuning, graft, tower, and their curves.

A run's `run.json` names the model's folder, `finetune.json` in it the graft, `graft.json` in that the tower, with the
settings and the curve of its pretraining. What has moved or was never written is left out.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.tower.curve import LOG, Curve, curve_in, curve_of_log
from mllm_adapters.contract.finetune_record import FINETUNE, FinetuneRecord, read_finetune
from mllm_adapters.contract.graft_record import GRAFT, Graft, read_graft

#: What is drawn of the log of fine-tuning.
TERMS = ("loss", "accuracy")


@dataclass(frozen=True)
class Origin:
    """How one model was made.

    Attributes:
        finetuning: the record of its fine-tuning.
        graft: the record of the graft that was fine-tuned, or that is the model.
        pretraining: settings with which the tower was pretrained by this project; empty where it was not, or does not say.
        curves: `pretraining` and `fine-tuning` -> what was logged.
        missing: what could not be read, and why.
    """

    finetuning: FinetuneRecord | None = None
    graft: Graft | None = None
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def origin_of(run: str | os.PathLike[str]) -> Origin:
    """How the model of a finished run was made; `run` is its output directory or its predictions file."""
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    model = _model(folder)
    if model is None:
        return Origin()
    missing: list[str] = []
    finetuning = graft = None
    curves: dict[str, Curve] = {}
    try:
        if (model / FINETUNE).is_file():
            finetuning = read_finetune(model)
            if curve := curve_of_log(model / LOG, TERMS):
                curves["fine-tuning"] = curve
        base = (model / finetuning.base) if finetuning else model
        if (base / GRAFT).is_file():
            graft = read_graft(base)
    except (FormatError, OSError) as error:
        missing.append(str(error))
    origin = graft.donor.origin if graft and graft.donor else {}
    settings = origin.get("settings")
    try:
        if origin.get("curve") and graft and graft.donor:
            curves = {"pretraining": curve_in(str(origin["curve"]), graft.donor.path), **curves}
    except FormatError as error:
        missing.append(str(error))
    return Origin(finetuning, graft, settings if isinstance(settings, dict) else {}, curves, tuple(missing))


def _model(folder: Path) -> Path | None:
    """The model's folder: as the run's record names it, from here or from where the run was started."""
    try:
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
        named, out = Path(settings["model"]), Path(settings["out"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    places = [named]
    if not named.is_absolute() and not out.is_absolute():
        whole, parts = folder.resolve(), out.parts
        if whole.parts[-len(parts) :] == parts:
            places.insert(0, whole.parents[len(parts) - 1] / named)
    return next((place for place in places if place.is_dir()), None)
