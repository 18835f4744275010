"""JSON files of a checkpoint directory."""

from pathlib import Path
from typing import Any

from mgll.weights.model_folder import read_json

Json = dict[str, Any]


def json_files(directory: Path) -> dict[str, Json]:
    """Read the JSON files of a host directory that a graft may have to edit, by name.

    Raises:
        FormatError: if config.json is missing, or a file is not a JSON object.
    """
    names = ["processor_config.json", "preprocessor_config.json", "square_images.json"]
    present = ["config.json", *(name for name in names if (directory / name).is_file())]
    return {name: read_json(directory / name) for name in present}
