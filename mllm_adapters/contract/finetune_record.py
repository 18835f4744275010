"""The content of `finetune.json`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from mgll.formats import FormatError, Row, describe_errors
from mgll.weights.model_folder import read_json
from mllm_adapters.settings import FinetuneSettings, check_trained_parts

FINETUNE = "finetune.json"
_SETTINGS = TypeAdapter(FinetuneSettings)


class FinetuneRecord(Row):
    """The record of a fine-tuned directory. It is written last, so its presence means a finished run.

    Attributes:
        schema_: format and version (`schema` in the file).
        host: name of the host.
        base: the directory that was fine-tuned, relative to this one.
        base_sha256: SHA-256 of the base's shards by name; a base with other weights is refused.
        settings: settings of the run, with defaults filled in.
        questions: number of questions, and the SHA-256 over them and their images.
        others: the same for the conversations mixed in, the questions held out, and the captions of the stage before.
        trained: number of parameters trained in the language model, the connector and the tower.
        validation: step, loss and accuracy of the validation whose weights these are; None where no question was held out.
        dtype: in what the weights were that were not trained: what the setting `auto` became, if it was that.
        supervised: token ids of the letters A to D that were trained.
        provenance: versions of the software and commit of this project.
    """

    schema_: Literal["mgll.finetune/1"] = Field(alias="schema")
    host: str
    base: str
    base_sha256: dict[str, str]
    settings: dict[str, Any]
    questions: dict[str, Any]
    others: dict[str, dict[str, Any]] = Field(default_factory=dict)
    trained: dict[str, int]
    supervised: tuple[int, ...]
    dtype: str | None = None
    validation: dict[str, float] | None = None
    provenance: dict[str, str]

    @field_validator("settings")
    @classmethod
    def _are_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        check_trained_parts(_SETTINGS.validate_python(settings))
        return settings

    @property
    def run(self) -> FinetuneSettings:
        """The settings, of which the adapter beside the record must have been made."""
        return _SETTINGS.validate_python(self.settings)


def read_finetune(directory: Path) -> FinetuneRecord:
    """Read the record of a fine-tuned directory.

    Raises:
        FormatError: if it is missing or not of this schema.
    """
    try:
        return FinetuneRecord.model_validate(read_json(directory / FINETUNE))
    except ValidationError as error:
        raise FormatError(directory / FINETUNE, None, describe_errors(error)) from None
