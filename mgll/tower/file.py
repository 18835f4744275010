"""The tower file (`mgll.ckpt`): a vision model's weights under their names in transformers, everything else as JSON in the header.

One safetensors file, no pickle. `python -m mgll.tower validate FILE` checks one. A tower that was pretrained here brings its text
side along (`mgll.tower.text_side`); all functions below but `load_text_side` pass over it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from mgll.files import atomic_path
from mgll.formats import FormatError, describe_errors, no_file
from mgll.images.preprocessing import Preprocessing
from mgll.tower.config import CLIP, Architecture, Pooling, layer_count
from mgll.tower.text_side import PREFIX, TextFacts, TextSide, check_text_side, from_tensors, to_tensors
from mgll.weights.dtypes import check_dtypes
from mgll.weights.finite import check_finite, names_not_finite, not_finite
from mgll.weights.reading import is_pickle, misfits
from mgll.weights.stored import Stored, read_stored

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class TowerHeader(Architecture):
    """What a tower file says about its weights.

    Attributes:
        schema_: format and version (`schema` in the file). `mgll.tower/1` holds a `CLIPVisionModel` pooled by `cls` or `mean`, and
            nothing else; a tower with its text side is `mgll.tower/3`; every other tower is `mgll.tower/2`.
        preprocessing: how images become the tower's input.
        pooling: which output was trained against texts: `cls` (class token after the last norm, the paper's), `mean` (mean of
            the patch tokens after the last norm) or `head` (the output of the model's own pooling head).
        text_side: the text side that travels in the file; None if there is none.
        origin: free-form record of where the weights come from (objective, data, config hash, versions).
    """

    schema_: Literal["mgll.tower/1", "mgll.tower/2", "mgll.tower/3"] = Field(alias="schema")
    preprocessing: Preprocessing
    pooling: Pooling = "cls"
    text_side: TextFacts | None = None
    origin: dict[str, Any] = Field(default_factory=dict)


def save_tower(
    path: str | os.PathLike[str],
    model: "PreTrainedModel",
    preprocessing: Preprocessing,
    pooling: Pooling = "cls",
    text_side: TextSide | None = None,
    **origin: Any,
) -> None:
    """Write a tower file atomically.

    Args:
        path: the file.
        model: a model of one of the kinds that `mgll.tower.model` lists.
        preprocessing: how images become the model's input.
        pooling: which output was trained against texts: `cls`, `mean` or `head`.
        text_side: what it was trained against them with, if that is to travel along.
        origin: entries of the header's free-form record of where the weights come from.

    Raises:
        KeyError: if the model is of another kind.
        ValueError: if the model does not take images of the preprocessing's size, does not have the output of `pooling`, or holds
            NaN or infinity.
    """
    # here, because torch takes seconds to import
    from safetensors.torch import save_file

    from mgll.tower.model import check_pooling, config_of, measure

    config = config_of(model)
    is_clip = config.get("model_type") == CLIP
    version = 3 if text_side else 1 if is_clip and pooling != "head" else 2
    header = TowerHeader(
        schema=f"mgll.tower/{version}",  # type: ignore[arg-type]
        config=config,
        measured=None if is_clip else measure(model, preprocessing.size),
        preprocessing=preprocessing,
        pooling=pooling,
        text_side=text_side.facts if text_side else None,
        origin=origin,
    )
    check_pooling(model, header.geometry, pooling)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= to_tensors(text_side) if text_side else {}
    if wrong := names_not_finite(tensors):
        raise ValueError(not_finite(", ".join(wrong[:4])))
    aside = {name for name, left_out in (("measured", is_clip), ("text_side", text_side is None)) if left_out}
    said = header.model_dump_json(by_alias=True, exclude=aside)
    with atomic_path(path) as temporary:
        # one entry only: safetensors writes several in an order that changes from run to run
        save_file(tensors, temporary, metadata={"mgll": said})


def is_tower(path: Path) -> bool:
    """Whether a file says of itself that it is a tower file, of any version, whole or not."""
    try:
        return "mgll" in read_stored(path)[1]
    except FormatError:
        return False


def read_header(path: str | os.PathLike[str]) -> TowerHeader:
    """Read and check the header of a tower file, without its weights.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower.
    """
    if not Path(path).is_file():
        raise FormatError(path, None, no_file(path).replace("file", "tower file"))
    if is_pickle(Path(path)):
        raise FormatError(
            path,
            None,
            "this is a pickle (torch.save), which can run code when opened; a tower is a safetensors file as"
            " recipes/pretrain_mgll.py writes it",
        )
    metadata = read_stored(Path(path))[1]
    if "mgll" not in metadata:
        raise FormatError(path, None, 'a safetensors file without the "mgll" header entry: weights, but not a tower')
    try:
        return TowerHeader.model_validate_json(metadata["mgll"])
    except ValidationError as error:
        raise FormatError(path, None, f"tower header: {describe_errors(error)}") from None


def read_tower(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Where the tensors of a tower file lie in it, by their names in transformers; those of its text side are checked and left out.

    All that the header says is compared with the model that will be built of it: its tensors' shapes, and the tokens that it makes
    of an image. The model is built on torch's meta device, which takes no memory.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower, if tensors are missing, surplus, misshapen for the
            header's config or no numbers, or if the model's tokens or its output are not as the header says.
    """
    from mgll.tower.model import check_pooling, measure

    header = read_header(path)
    stored, _ = read_stored(Path(path))
    texts = {name: place for name, place in stored.items() if name.startswith(PREFIX)}
    found = {name: place for name, place in stored.items() if name not in texts}
    if (depth := layer_count(header.config)) > len(found):
        raise FormatError(
            path, None, f"tower header: the config says {depth} layers, the file has {len(found)} tensors"
        )
    try:
        model = _on_meta(header.config)
        problems = misfits(found, model.state_dict(), "the config says")
        if not problems:
            tokens = measure(model, header.preprocessing.size)
            check_pooling(model, tokens, header.pooling)
    except ValueError as error:
        raise FormatError(path, None, f"tower header: {error}") from None
    if problems:
        raise FormatError(path, None, "weights do not fit the header's config: " + "; ".join(problems[:8]))
    if tokens != header.geometry:
        raise FormatError(path, None, f"its tokens are {tokens}, the header says {header.geometry}")
    check_dtypes(Path(path), found, model)
    check_text_side(Path(path), header.text_side, texts, tokens.width)
    check_finite(stored)
    return found


def read_tensors(path: str | os.PathLike[str]) -> "dict[str, Tensor]":
    """The tensors of a tower file by their names in transformers.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower, or if tensors are missing, surplus or misshapen
            for the header's config.
    """
    from safetensors import safe_open

    names = read_tower(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in names}


def load_text_side(path: str | os.PathLike[str]) -> TextSide | None:
    """The text side of a tower file; None if it has none, as those of earlier releases and of other people's weights.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    if header.text_side is None:
        return None
    read_tower(path)
    return from_tensors(header.text_side, load_file(path))


def tower_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a tower of this configuration.

    The model is built on torch's meta device, without memory for its weights.

    Raises:
        ValueError: if no tower can be built from the configuration.
    """
    return {name: tuple(tensor.shape) for name, tensor in _on_meta(config).state_dict().items()}


def _on_meta(config: dict[str, Any]) -> "PreTrainedModel":
    # here, because torch takes seconds to import
    import torch

    from mgll.tower.model import build_model

    with torch.device("meta"):
        return build_model(config)


def load_tower(path: str | os.PathLike[str]) -> "tuple[PreTrainedModel, TowerHeader]":
    """The model of a tower file, in evaluation mode, and the file's header. `mgll.tower.model` has the functions for the model.

    Raises:
        FormatError: if the file is missing, a pickle, cut short, or not a tower, or if tensors are missing, surplus or misshapen
            for the header's config.
    """
    from mgll.tower.model import build_model

    tensors, header = read_tensors(path), read_header(path)
    model = build_model(header.config)
    model.load_state_dict(tensors, strict=True)
    return model.eval(), header
