"""The paper's ablation tables as files.

A row holds a few settings, which replace those of a recipe, and the results that the paper reports for it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from mgll.commandline import check_yaml, parse_settings
from mgll.formats import FormatError, Row, describe_errors, read_text
from mgll.settings import PretrainSettings


class AblationRow(Row):
    """One row of an ablation table.

    Attributes:
        settings: fields of `PretrainSettings` that replace those of the recipe.
        probe: what the paper reports for a linear probe: AUC, accuracy and mAP in percent; None in a table of your own.
        tuned: what the paper reports after full fine-tuning: AUC, accuracy and mAP in percent; None in a table of your own.
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    probe: tuple[float, float, float] | None = None
    tuned: tuple[float, float, float] | None = None


class AblationTable(Row):
    """One ablation table.

    Attributes:
        title: what is varied from row to row.
        paper: which table of the paper this is; empty for one of your own.
        data: what the paper evaluates on.
        shared: parts of settings that rows take over by YAML anchors; read by nothing else.
        rows: the rows by their names in the paper, in the paper's order.
    """

    title: str
    paper: str = ""
    data: str = ""
    shared: dict[str, Any] = Field(default_factory=dict)
    rows: dict[str, AblationRow] = Field(min_length=1)


def read_table(path: str | os.PathLike[str]) -> AblationTable:
    """Read an ablation table, such as the files of `recipes/configs/ablations/`.

    Raises:
        FormatError: if the file is missing, not YAML, or not an ablation table.
    """
    check_yaml(path)
    try:
        return AblationTable.model_validate(yaml.safe_load(read_text(path)))
    except ValidationError as error:
        raise FormatError(path, None, describe_errors(error)) from None


def row_settings(table: AblationTable, name: str, flags: Sequence[str], seed: int | None = None) -> PretrainSettings:
    """The settings for the run of one row: the row's settings replace those of the flags, which may name a recipe by `--config`.

    The run gets a folder of its own inside the `out` of the flags. Exits with a message if a setting is wrong.

    Args:
        table: the ablation table.
        name: name of the row.
        flags: flags of `recipes/pretrain_mgll.py`.
        seed: a seed in the place of the flags'; it then has a part in the folder's name.
    """
    row = yaml.safe_dump(table.rows[name].settings)
    settings = parse_settings(PretrainSettings, "", [*flags, "--config", row])
    folder = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    if seed is not None:
        settings, folder = replace(settings, seed=seed), f"{folder}-seed-{seed}"
    return replace(settings, out=str(Path(settings.out) / folder))
