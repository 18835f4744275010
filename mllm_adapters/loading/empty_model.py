"""The model of a checkpoint without its weights, and whether the checkpoint's tensors are exactly those that it needs.

transformers' own loader is given tensors without content, on torch's meta device. It renames, converts and compares them as it will
when the model is loaded, in a second and without memory for the weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from mgll.formats import FormatError
from mgll.tower.config import layer_count
from mgll.tower.model import said_by
from mgll.weights.dtypes import check_dtypes
from mgll.weights.finite import emptied
from mgll.weights.unbuildable import UNBUILDABLE
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import Part, is_float
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.loading.classes import model_class


def empty_model(
    host: Host, directory: Path, config: Json, tensors: Mapping[str, Part], tower: TowerSpec | None = None
) -> Any:
    """Build the model of a config.json on the meta device.

    Args:
        host: the family.
        directory: the checkpoint, for messages.
        config: the content of its config.json.
        tensors: its tensors, none of which is read.
        tower: how the donor of a graft is run; None where the host's own class builds its tower.

    Raises:
        FormatError: if no model can be built of the configuration, or the tensors are not exactly those of this model.
    """
    refuse_quantised(directory, config)
    if (layers := layer_count(config)) > len(tensors):
        raise FormatError(directory, None, f"config.json says {layers} layers, the files hold {len(tensors)} tensors")
    if empty := [name for name, part in tensors.items() if 0 in part.shape]:
        raise FormatError(tensors[empty[0]].shard or directory, None, emptied(empty))
    cls = model_class(host, tower)
    try:
        with _quiet():
            model, info = cls.from_pretrained(
                None,
                config=cls.config_class.from_dict(dict(config)),
                state_dict={name: _without_content(part) for name, part in tensors.items()},
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except UNBUILDABLE as error:
        raise FormatError(
            directory,
            None,
            f"no {cls.__name__} can be built of its config.json: {type(error).__name__}: {said_by(error)}",
        ) from error
    check_loaded(host, directory, info)
    check_dtypes(directory, tensors, model)
    return model


def refuse_quantised(directory: Path, config: Json) -> None:
    """Raise `FormatError` where a config.json says that the weights are quantised.

    transformers goes by it: full weights, to which the note of a merged QLoRA clings, would be quantised, the tower with them.
    """
    for said in (config, *(part for part in config.values() if isinstance(part, dict))):
        if note := said.get("quantization_config"):
            kind = note.get("quant_method", "by an unnamed method") if isinstance(note, dict) else note
            raise FormatError(
                directory,
                None,
                f"config.json says that its weights are quantised ({kind}); take the checkpoint that they were made of, which"
                " --quantize nf4 loads in 4 bits. If they are not, remove quantization_config from config.json",
            )


def check_loaded(host: Host, directory: Path, info: Mapping[str, Any]) -> None:
    """Raise `FormatError` if transformers' loader found tensors missing, surplus or misshapen."""
    if problems := {what: sorted(map(str, names)) for what, names in info.items() if names}:
        listed = "; ".join(f"{what}: {', '.join(names[:6])}" for what, names in problems.items())
        raise FormatError(directory, None, f"the weights are not exactly those of {host.model_class}: {listed}")


def _without_content(part: Part) -> torch.Tensor:
    return torch.empty(part.shape, dtype=torch.float32 if is_float(part) else torch.int64, device="meta")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its table of what did not fit, which is raised as an error."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
