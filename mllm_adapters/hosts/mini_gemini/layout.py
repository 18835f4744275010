"""Mini-Gemini as it is published: in the layout of LLaVA's own repository, sometimes without one of its towers."""

import re
from collections.abc import Mapping
from pathlib import Path

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint, read_pickle, read_shard
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.hosts.llava import layout as llava_layout
from mllm_adapters.hosts.llava.host import grid_side
from mllm_adapters.hosts.llava.published import add_tower
from mllm_adapters.hosts.llava.tower_part import named_tower, shape_is_known

MODEL_TYPE, CLASS = "mgll_mini_gemini", "MiniGeminiForConditionalGeneration"
#: Names of the makers' own layout, around Vicuna and the other language models.
MAKERS_TYPES = ("mgm", "mgm_mistral", "mgm_mixtral", "mgm_gemma")
MAP = "model.vision_tower_aux."
NAMES: NameTable = (
    (r"model\.vision_tower_aux\.(?=vision_stem\.|vision_stages\.)", MAP),
    (r"model\.vlm_uni_query_projector\.", "model.mining.query."),
    (r"model\.vlm_uni_aux_projector\.", "model.mining.key."),
    (r"model\.vlm_uni_val_projector\.", "model.mining.value."),
)
#: Towers that the published file leaves out. The ConvNeXt stays in a graft.
HUB_IDS = {
    "clip": "openai/clip-vit-large-patch14-336",
    "convnext": "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
}
_BUILT = "take YanweiLi/MGM-7B or YanweiLi/MGM-13B"
_TRUNK = r"visual\.trunk\.(?=stem\.|stages\.)"


def left_out(directory: Path, own_tower: bool) -> dict[str, str]:
    """Which towers a published checkpoint leaves out: hub ids or folders by the names of `--part`.

    Args:
        directory: the checkpoint.
        own_tower: whether the weights of the low-resolution tower are needed, which a graft replaces.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete.
    """
    names = "\n".join(read_checkpoint(directory))
    clip = named_tower(read_json(directory / "config.json"), HUB_IDS["clip"])
    found = {} if MAP in names else {"convnext": HUB_IDS["convnext"]}
    if ".vision_tower." not in names and (own_tower or not shape_is_known(clip)):
        found["clip"] = clip
    return found


def read_published(directory: Path, parts: Mapping[str, Path]) -> Source:
    """Read a checkpoint in the published layout under the names of `MiniGeminiForConditionalGeneration`.

    Raises:
        FormatError: if it is damaged, incomplete, or holds tensors of something else.
        HostError: if it is of another family, or leaves a tower out that no part gives.
    """
    old = read_json(directory / "config.json")
    _check_variant(old)
    tensors = llava_layout.rename(read_checkpoint(directory), directory, NAMES)
    if not any(name.startswith(MAP) for name in tensors):
        tensors |= _read_convnext(parts)
    vision = add_tower(tensors, old, directory, parts, HUB_IDS["clip"])
    config = llava_layout.llava_config(old, vision, "llama") | {
        "architectures": [CLASS],
        "model_type": MODEL_TYPE,
        "low_image_size": vision["image_size"],
        **_convnext(tensors),
    }
    tokenizer = llava_layout.add_tokens(directory, config, tensors)
    size, grid = old.get("image_size_aux", 768), grid_side(vision)
    processor = llava_layout.processor_files(size, size // grid, pad=old.get("image_aspect_ratio") == "pad")
    return Source(directory, {"config.json": config, **processor, **tokenizer}, tensors)


def _check_variant(old: Json) -> None:
    if old.get("image_grid", 1) != 1:
        raise HostError(
            "the HD variants cut the image into tiles, which is not built here; take YanweiLi/MGM-7B or YanweiLi/MGM-13B"
        )
    if old["model_type"] != MAKERS_TYPES[0] or old.get("rope_theta", 10000.0) != 10000.0:
        raise HostError(
            "its language model is not Vicuna and is asked in another form; take YanweiLi/MGM-7B or YanweiLi/MGM-13B"
        )
    if old.get("mm_vision_select_feature", "patch") != "patch":
        raise HostError(f"it hands the class token on, which has no window of the map to look at; {_BUILT}")


def _read_convnext(parts: Mapping[str, Path]) -> dict[str, Part]:
    """Read the tensors of the high-resolution tower, which the published file leaves out, from where they were taken."""
    hub_id = HUB_IDS["convnext"]
    if "convnext" not in parts:
        raise HostError(f"the checkpoint leaves its convnext tower out; add --part convnext=DIR_OR_HUB_ID ({hub_id})")
    directory = parts["convnext"]
    if (directory / "open_clip_model.safetensors").is_file():
        found: Mapping[str, Part] = read_shard(directory / "open_clip_model.safetensors")
    elif (directory / "open_clip_pytorch_model.bin").is_file():
        found = read_pickle(directory / "open_clip_pytorch_model.bin")
    else:
        found = read_checkpoint(directory)
    names = {name: re.sub(_TRUNK, f"{MAP}vision_", name, count=1) for name in found if re.match(_TRUNK, name)}
    if not names:
        raise FormatError(directory, None, f"no convnext tower in it; {hub_id} has one")
    return {new: found[name] for name, new in names.items()}


def _convnext(tensors: Mapping[str, Part]) -> Json:
    """Widths and depths of the ConvNeXt's stages, from its tensors."""
    blocks = [name.split(".") for name in tensors if name.startswith(MAP) and name.endswith(".gamma")]
    stages = sorted({int(parts[3]) for parts in blocks})
    return {
        "convnext_dims": [tensors[f"{MAP}vision_stages.{stage}.blocks.0.gamma"].shape[0] for stage in stages],
        "convnext_depths": [sum(int(parts[3]) == stage for parts in blocks) for stage in stages],
    }
