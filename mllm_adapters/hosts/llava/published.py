"""Checkpoints of LLaVA's own repository, whole or as the change of a base, read as transformers' LLaVA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.hosts.llava import adapter, layout, tower_part
from mllm_adapters.modules.tokenizer_files import has_tokenizer

GENERATION = "generation_config.json"
PROJECTOR = "model.multi_modal_projector.linear_1.weight"


def left_out(directory: Path, parts: Mapping[str, Path], hub_ids: Mapping[str, str], own_tower: bool) -> dict[str, str]:
    """What such a checkpoint leaves out, of its base and its tower: hub ids or folders by the names of `--part`.

    Args:
        directory: the checkpoint.
        parts: the parts that are already found.
        hub_ids: the family's parts, for what the checkpoint does not name itself.
        own_tower: whether the weights of the tower are needed; if not, it is named only where its shape is not known.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete.
    """
    old = read_json(directory / "config.json")
    found = {}
    if adapter.changes_a_base(directory):
        found[adapter.PART] = adapter.named_base(directory, old) or hub_ids[adapter.PART]
        if adapter.PART not in parts:
            return found
    named = tower_part.named_tower(old, hub_ids[tower_part.PART])
    inside = any("vision_tower.vision_tower." in name for name in published_tensors(directory, parts))
    if not inside and (own_tower or not tower_part.shape_is_known(named)):
        found[tower_part.PART] = named
    return found


def published_tensors(directory: Path, parts: Mapping[str, Path]) -> dict[str, Part]:
    """The tensors of such a checkpoint by their published names, with those of its base where it is the change of one.

    Raises:
        FormatError: if checkpoint or base are damaged or incomplete.
        HostError: if it is the change of a base, and that is not given.
    """
    if not adapter.changes_a_base(directory):
        return dict(read_checkpoint(directory))
    if adapter.PART not in parts:
        base = adapter.named_base(directory, read_json(directory / "config.json"))
        raise HostError(f"{directory} holds the change of a base; add --part {adapter.PART}=DIR_OR_HUB_ID ({base})")
    return adapter.merged(directory, parts[adapter.PART])


def add_tower(
    tensors: dict[str, Part], old: Json, directory: Path, parts: Mapping[str, Path], hub_id: str
) -> dict[str, Any]:
    """Add the tensors of a tower that the checkpoint leaves out in place; returns the tower's configuration.

    Raises:
        FormatError: if the checkpoint has no projector, or the part no tower.
        HostError: if the tower is needed and not given.
    """
    if PROJECTOR not in tensors:
        raise FormatError(directory, None, "no projector in it (model.mm_projector.0.weight): not a whole LLaVA")
    known: Json | None = None
    if not any(name.startswith(tower_part.TOWER) for name in tensors):
        like = tensors[PROJECTOR]
        item = like.nbytes // (like.shape[0] * like.shape[1])
        named = tower_part.named_tower(old, hub_id)
        found, known = tower_part.tower_tensors(named, parts.get(tower_part.PART), like.dtype, item)
        if (width := found[f"{tower_part.TOWER}embeddings.class_embedding"].shape[0]) != like.shape[1]:
            raise HostError(
                f"{directory} leaves its tower out: its projector reads one {like.shape[1]} wide, {named} is {width} wide; add"
                f" --part {tower_part.PART}=DIR_OR_HUB_ID with the one that it was trained on"
            )
        tensors |= found
    return layout.vision_config(tensors, directory) | (known or {})


def read_published(
    directory: Path, parts: Mapping[str, Path], text_model_type: str, hub_id: str, further: NameTable = ()
) -> Source:
    """Read such a checkpoint under the names of transformers' LLaVA.

    Args:
        directory: the checkpoint.
        parts: directories of its base and its tower, where it leaves them out.
        text_model_type: `model_type` of the language model.
        hub_id: the tower where config.json names none.
        further: names of a relative's own modules.

    Raises:
        FormatError: if it is damaged, incomplete, or holds tensors of something else.
        HostError: if its kind is not built here, or it leaves something out that no part gives.
    """
    old = read_json(directory / "config.json")
    _check_kind(old)
    tensors = layout.rename(published_tensors(directory, parts), directory, further)
    vision = add_tower(tensors, old, directory, parts, hub_id)
    config = layout.llava_config(old, vision, text_model_type)
    base = parts.get(adapter.PART)
    files = {"config.json": config}
    if base and not (directory / GENERATION).is_file() and (base / GENERATION).is_file():
        files[GENERATION] = read_json(base / GENERATION)
    speaker = base if base and not has_tokenizer(directory) else directory
    files |= layout.add_tokens(speaker, config, tensors)
    files |= layout.processor_files(
        vision["image_size"],
        vision["patch_size"],
        pad=old.get("image_aspect_ratio") == "pad",
        select=config["vision_feature_select_strategy"],
    )
    return Source(directory, files, tensors, leave=adapter.LEFT_BEHIND if base else ())


def _check_kind(old: Json) -> None:
    aspect, merge = str(old.get("image_aspect_ratio")), str(old.get("mm_patch_merge_type", "flat"))
    if aspect.startswith("anyres") or merge.startswith("spatial"):
        raise HostError(
            f"image_aspect_ratio is {aspect!r}: a LLaVA-NeXT, which cuts the image into tiles and is another model; take"
            " --model llava-next with llava-hf/llava-v1.6-mistral-7b-hf, or LLaVA-1.5: liuhaotian/llava-v1.5-7b"
        )
