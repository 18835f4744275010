"""The CLIP tower of a checkpoint in the layout of LLaVA's own repository: inside it, in a folder of its own, or not needed."""

import re
from collections.abc import Mapping
from pathlib import Path

from mgll.formats import FormatError
from mgll.tower.config import CLIP, CLIP_DEFAULTS
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.deferred import Absent
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint
from mllm_adapters.contract.terms import HostError

#: Name of the tower's checkpoint for `--part`.
PART = "clip"
TOWER = "model.vision_tower."
_L_14: Json = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
#: Shapes of the towers that checkpoints of this layout name, by the last part of hub id or path.
KNOWN: dict[str, Json] = {
    "clip-vit-large-patch14-336": _L_14 | {"patch_size": 14, "image_size": 336},
    "clip-vit-large-patch14": _L_14 | {"patch_size": 14, "image_size": 224},
}
_NAMES = r"(?:vision_model\.)?(?=embeddings\.|encoder\.|pre_layrnorm\.|post_layernorm\.)(?!.*position_ids)"


def named_tower(old: Json, hub_id: str) -> str:
    """Where the tower lies that a published config.json names: a folder, or a hub id.

    Many were written where the tower lay in a folder of that machine; of these the folder's name is left.

    Args:
        old: the published config.json.
        hub_id: the family's tower, where config.json names none.
    """
    named = str(old.get("mm_vision_tower") or hub_id)
    last = _last(named)
    if Path(named).is_dir() or (last not in KNOWN and re.fullmatch(r"[\w.-]+/[\w.-]+", named)):
        return named
    return f"openai/{last}" if last in KNOWN else named


def shape_is_known(named: str) -> bool:
    """Whether the shape of the tower of this hub id (`named_tower`) is known without its files."""
    return _last(named) in KNOWN and not Path(named).is_dir()


def _last(named: str) -> str:
    return named.rstrip("/").rpartition("/")[2]


def tower_tensors(named: str, folder: Path | None, dtype: str, item: int) -> tuple[dict[str, Part], Json | None]:
    """The tensors of a tower that the checkpoint leaves out, and its configuration where a file has it.

    Args:
        named: its hub id or folder (`named_tower`).
        folder: the folder that the user gave or the hub's cache has; None where the tower is not needed.
        dtype: dtype of the checkpoint, as safetensors names it.
        item: bytes of a number of this dtype.

    Returns:
        Tensors by their names in transformers' LLaVA; without `folder` they have no content.

    Raises:
        FormatError: if there is no CLIP tower in the folder.
        HostError: if there is no folder, and of a tower of this name the shape is not known.
    """
    if folder is not None:
        return _read(folder), _config(folder)
    if not shape_is_known(named):
        raise HostError(
            f"the checkpoint leaves its tower out and names it {named!r}; add --part {PART}=DIR_OR_HUB_ID with a copy of that"
        )
    # here, because torch takes seconds to import
    from mgll.tower.file import tower_shapes

    shapes = tower_shapes(CLIP_DEFAULTS | KNOWN[_last(named)] | {"model_type": CLIP})
    return {TOWER + name: Absent(dtype, shape, item) for name, shape in shapes.items()}, None


def _read(folder: Path) -> dict[str, Part]:
    found: Mapping[str, Part] = read_checkpoint(folder)
    tensors = {re.sub(_NAMES, TOWER, name, count=1): part for name, part in found.items() if re.match(_NAMES, name)}
    if f"{TOWER}embeddings.class_embedding" not in tensors:
        raise FormatError(folder, None, "no CLIP tower in it (names like vision_model.embeddings.class_embedding)")
    return tensors


def _config(folder: Path) -> Json | None:
    """What config.json says of the tower that cannot be read off its tensors."""
    if not (folder / "config.json").is_file():
        return None
    content = read_json(folder / "config.json")
    vision: Json = content.get("vision_config") or content
    known = ("num_attention_heads", "hidden_act", "layer_norm_eps")
    return {key: vision[key] for key in known if key in vision}
