"""Mini-Gemini as it is published: in the layout of LLaVA's own repository, sometimes without one of its towers."""

import re
from collections.abc import Mapping
from pathlib import Path

from mgll.formats import FormatError
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint, read_pickle, read_shard
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.hosts.llava import layout as llava_layout
from mllm_adapters.hosts.llava.host import grid_side

MODEL_TYPE, CLASS = "mgll_mini_gemini", "MiniGeminiForConditionalGeneration"
MAP = "model.vision_tower_aux."
NAMES: NameTable = (
    (r"model\.vision_tower_aux\.(?=vision_stem\.|vision_stages\.)", MAP),
    (r"model\.vlm_uni_query_projector\.", "model.mining.query."),
    (r"model\.vlm_uni_aux_projector\.", "model.mining.key."),
    (r"model\.vlm_uni_val_projector\.", "model.mining.value."),
)
#: Towers that the published file may leave out: hub id, regex for the start of the names there, start of the names here.
PARTS = {
    "clip": ("openai/clip-vit-large-patch14-336", r"vision_model\.(?!.*position_ids)", llava_layout.TOWER),
    "convnext": (
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        r"visual\.trunk\.(?=stem\.|stages\.)",
        f"{MAP}vision_",
    ),
}
HUB_IDS = {part: hub_id for part, (hub_id, _, _) in PARTS.items()}


def read_published(directory: Path, parts: Mapping[str, Path]) -> Source:
    """Read a checkpoint in the published layout under the names of `MiniGeminiForConditionalGeneration`.

    Raises:
        FormatError: if it is damaged, incomplete, or holds tensors of something else.
        HostError: if it is of another family, or leaves a tower out that no part gives.
    """
    old = llava_layout.read_config(directory, "mgm")
    _check_variant(old)
    tensors = llava_layout.rename(read_checkpoint(directory), directory, NAMES)
    for part, (_, _, prefix) in PARTS.items():
        if not any(name.startswith(prefix) for name in tensors):
            tensors |= _read_part(part, parts)
    vision = llava_layout.vision_config(tensors, directory)
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
        raise HostError("the HD variants cut the image into tiles, which is not built here; take MGM-7B or MGM-13B")
    if old.get("rope_theta", 10000.0) != 10000.0:
        raise HostError("its language model is not Vicuna and is asked in another form; take MGM-7B or MGM-13B")
    if old.get("mm_vision_select_feature", "patch") != "patch":
        raise HostError("it hands the class token on, which has no window of the map to look at")


def _read_part(part: str, parts: Mapping[str, Path]) -> dict[str, Part]:
    """Read the tensors of a tower that the published file leaves out from the checkpoint that it was taken from."""
    hub_id, pattern, prefix = PARTS[part]
    if part not in parts:
        raise HostError(f"the checkpoint leaves its {part} tower out; add --part {part}=DIR_OR_HUB_ID ({hub_id})")
    directory = parts[part]
    if (directory / "open_clip_model.safetensors").is_file():
        found: Mapping[str, Part] = read_shard(directory / "open_clip_model.safetensors")
    elif (directory / "open_clip_pytorch_model.bin").is_file():
        found = read_pickle(directory / "open_clip_pytorch_model.bin")
    else:
        found = read_checkpoint(directory)
    tensors = {re.sub(pattern, prefix, name, count=1): part for name, part in found.items() if re.match(pattern, name)}
    if not tensors:
        raise FormatError(directory, None, f"no {part} tower in it; {hub_id} has one")
    return tensors


def _convnext(tensors: Mapping[str, Part]) -> Json:
    """Widths and depths of the ConvNeXt's stages, from its tensors."""
    blocks = [name.split(".") for name in tensors if name.startswith(MAP) and name.endswith(".gamma")]
    stages = sorted({int(parts[3]) for parts in blocks})
    return {
        "convnext_dims": [tensors[f"{MAP}vision_stages.{stage}.blocks.0.gamma"].shape[0] for stage in stages],
        "convnext_depths": [sum(int(parts[3]) == stage for parts in blocks) for stage in stages],
    }
