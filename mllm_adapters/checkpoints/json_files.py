"""JSON files of a checkpoint directory."""

import json
from pathlib import Path
from typing import Any

from mgll.formats import FormatError

Json = dict[str, Any]


def json_files(directory: Path) -> dict[str, Json]:
    """Read the JSON files of a host directory that a graft may have to edit, by name.

    Raises:
        FormatError: if config.json is missing, or a file is not a JSON object.
    """
    names = ["processor_config.json", "preprocessor_config.json", "square_images.json"]
    present = ["config.json", *(name for name in names if (directory / name).is_file())]
    return {name: read_json(directory / name) for name in present}


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        FormatError: if there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise FormatError(path.parent, None, f"no {path.name} in it: not a model directory")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(path, None, f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise FormatError(path, None, "not a JSON object")
    return content
