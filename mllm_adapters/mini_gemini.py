"""Mini-Gemini (MGM): a LLaVA on Vicuna whose 576 image tokens each look up detail in a ConvNeXt's high-resolution map.

Only the low-resolution tower is replaced. The ConvNeXt stays and keeps its pixels, 768 px and CLIP-normalised, so a donor
normalises and resizes for itself. Each token looks at its own window of the map's 192 x 192 cells: a donor's grid must divide
that. The published file is in the layout of LLaVA's own repository and may leave the two towers out.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mgll.formats import FormatError
from mllm_adapters import llava, llava_layout
from mllm_adapters.host import GraftSettings, HostError, Json, NewTensor, Plan, Source

if TYPE_CHECKING:
    from mgll.preprocessing import Preprocessing
    from mgll.tower import TowerHeader
    from mllm_adapters.surgery import Part
    from mllm_adapters.tower_spec import TowerSpec

#: Pixels along the side of a cell of the map.
CELL = 4
MAP = "model.vision_tower_aux."
NAMES = (
    (r"model\.vision_tower_aux\.(?=vision_stem\.|vision_stages\.)", MAP),
    (r"model\.vlm_uni_query_projector\.", "model.mining.query."),
    (r"model\.vlm_uni_aux_projector\.", "model.mining.key."),
    (r"model\.vlm_uni_val_projector\.", "model.mining.value."),
)
#: What the published file may leave out: hub id, names there, names here.
PARTS = {
    "clip": ("openai/clip-vit-large-patch14-336", r"vision_model\.(?!.*position_ids)", llava_layout.TOWER),
    "convnext": (
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        r"visual\.trunk\.(?=stem\.|stages\.)",
        f"{MAP}vision_",
    ),
}


def open_checkpoint(directory: Path, parts: Mapping[str, Path]) -> Source:
    """A checkpoint in the published layout, or one that was converted before.

    Raises:
        FormatError: if it is damaged, incomplete, or holds tensors of something else.
        HostError: if it is of another family, or one of its towers lies in a part that was not named.
    """
    from mllm_adapters.loading import read_json
    from mllm_adapters.surgery import read_checkpoint
    from mllm_adapters.transplant import read_native

    if read_json(directory / "config.json").get("model_type") == HOST.model_type:
        return read_native(HOST, directory)
    old = llava_layout.read_config(directory, "mgm")
    _check_variant(old)
    tensors = llava_layout.rename(read_checkpoint(directory), directory, NAMES)
    for part, (_, _, prefix) in PARTS.items():
        if not any(name.startswith(prefix) for name in tensors):
            tensors |= _read_part(part, parts)
    vision = llava_layout.vision_config(tensors)
    config = llava_layout.llava_config(old, vision, "llama") | {
        "architectures": [HOST.model_class.partition(":")[2]],
        "model_type": HOST.model_type,
        "low_image_size": vision["image_size"],
        **_convnext(tensors),
    }
    tokenizer = llava_layout.add_tokens(directory, config, tensors)
    size, grid = old.get("image_size_aux", 768), llava.donor_grid(vision)
    processor = llava_layout.processor_files(size, size // grid, pad=old.get("image_aspect_ratio") == "pad")
    return Source(directory, {"config.json": config, **processor, **tokenizer}, tensors)


def _check_variant(old: Json) -> None:
    if old.get("image_grid", 1) != 1:
        raise HostError("the HD variants cut the image into tiles, which is not built here; take MGM-7B or MGM-13B")
    if old.get("rope_theta", 10000.0) != 10000.0:
        raise HostError("its language model is not Vicuna and is asked in another form; take MGM-7B or MGM-13B")
    if old.get("mm_vision_select_feature", "patch") != "patch":
        raise HostError("it hands the class token on, which has no window of the map to look at")


def _read_part(part: str, parts: Mapping[str, Path]) -> "dict[str, Part]":
    """The tensors of a tower that the published file leaves out, from where its makers took it."""
    from mllm_adapters.surgery import read_checkpoint, read_pickle, read_shard

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


def _convnext(tensors: "Mapping[str, Part]") -> Json:
    """Widths and depths of the stages, from the tensors."""
    blocks = [name.split(".") for name in tensors if name.startswith(MAP) and name.endswith(".gamma")]
    stages = sorted({int(parts[3]) for parts in blocks})
    return {
        "convnext_dims": [tensors[f"{MAP}vision_stages.{stage}.blocks.0.gamma"].shape[0] for stage in stages],
        "convnext_depths": [sum(int(parts[3]) == stage for parts in blocks) for stage in stages],
    }


def plan(source: Source, donor: "TowerHeader", settings: GraftSettings) -> Plan:
    """Configuration, processor and new connector tensors for this donor.

    Raises:
        HostError: when the feature layer lies beyond the donor's depth, the donor does not see RGB, the class token is asked for,
            or the grid does not divide the map's.
    """
    from transformers import CLIPVisionConfig

    from mllm_adapters.tower_spec import tower_spec

    files = copy.deepcopy(source.files)
    config, seen = files["config.json"], _preprocessing(files)
    layer, host_grid = config["vision_feature_layer"], llava.donor_grid(config["vision_config"])
    spec = tower_spec(donor, settings, host_grid, layer, host_normalisation=(seen.mean, seen.std))
    grid = 1 if settings.tokens == "pooled" else spec.grid
    _check_grid(grid, seen.size // CELL, spec.class_token)
    own = _is_own_tower(spec, donor, config, seen)
    if not own:  # the donor prepares its pixels itself; all that it hands on is tokens, in the last place
        config |= {
            "vision_config": {**spec.config, "model_type": "clip_vision_model"},
            "low_image_size": None,
            "image_seq_length": grid * grid,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        }
        counts = {
            "patch_size": seen.size // grid,
            "num_additional_image_tokens": 0,
            "vision_feature_select_strategy": "full",
        }
        llava.edit_processor(files, seen.model_copy(update={"resize": donor.preprocessing.resize}), counts)
    resized = settings.tokens == "resize_posemb" and spec.size != CLIPVisionConfig(**donor.config).image_size
    return Plan(
        files=files,
        features=grid * grid,
        tower=None if own else spec,
        positions=grid if resized else None,
        new=_new_tensors(source, spec.width, settings),
        unchanged_behaviour=own,
    )


def _preprocessing(files: dict[str, Json]) -> "Preprocessing":
    """How an image becomes the large one that both branches see."""
    from mgll.preprocessing import Preprocessing

    image = files["processor_config.json"].get("image_processor") or files["preprocessor_config.json"]
    return Preprocessing(
        size=image["crop_size"]["height"],
        mean=tuple(image["image_mean"]),
        std=tuple(image["image_std"]),
        resize="pad" if image["do_pad"] else "crop" if image["do_center_crop"] else "squash",
    )


def _check_grid(grid: int, cells: int, class_token: bool) -> None:
    if class_token:
        raise HostError("a class token has no window of the high-resolution map; leave --feature-select alone")
    if cells % grid:
        raise HostError(
            f"the donor's grid of {grid} x {grid} does not divide the map of {cells} x {cells} cells, and each token looks at its"
            " own window of it; use --tokens resize_features"
        )


def _is_own_tower(spec: "TowerSpec", donor: "TowerHeader", config: Json, seen: "Preprocessing") -> bool:
    """Whether the donor is shaped, fed and read as the published tower is, so that it can stand there as that one does."""
    from transformers import CLIPVisionConfig

    size = config["low_image_size"]
    if size is None or spec.tokens == "pooled" or spec.layer != config["vision_feature_layer"]:
        return False
    published = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    one, other = (llava.saved_vision(CLIPVisionConfig(**vision).to_dict()) for vision in (spec.config, published))
    return one == other and donor.preprocessing == seen.model_copy(update={"size": size})


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """What depends on the tower's width, where that is another; the whole connector, where the user wants it new."""
    shapes = {name: part.shape for name, part in source.tensors.items()}
    old, channels = shapes["model.mining.key.1.weight"]
    hidden = shapes["model.multi_modal_projector.linear_1.weight"][0]
    norms = {"mining.query.0": width, "mining.key.0": channels, "mining.value.0": channels}
    linears = {
        "mining.query.1": (width, width),
        "mining.key.1": (width, channels),
        "mining.value.1": (width, channels),
        "multi_modal_projector.linear_1": (hidden, width),
        "multi_modal_projector.linear_2": (hidden, hidden),
    }
    if settings.connector == "keep":
        norms = {name: size for name, size in norms.items() if size == width != old}
        linears = {name: shape for name, shape in linears.items() if width in shape and width != old}
    return (
        *(NewTensor(f"{name}.{part}", (n,), fill=fill) for name, n in norms.items() for part, fill in _NORM),
        *(NewTensor(f"{name}.weight", shape, shape[1]) for name, shape in linears.items()),
        *(NewTensor(f"{name}.bias", shape[:1], shape[1]) for name, shape in linears.items()),
    )


_NORM = (("weight", 1.0), ("bias", 0.0))


HOST = replace(
    llava.HOST,
    name="mini-gemini",
    title="Mini-Gemini",
    checkpoint="YanweiLi/MGM-7B",
    model_type="mgll_mini_gemini",
    model_class="mllm_adapters.mini_gemini_model:MiniGeminiForConditionalGeneration",
    tower_keys=r"model\.vision_tower\.",
    connector=("mining", "multi_modal_projector"),
    plan=plan,
    geometry=(
        "CLIP ViT-L/14 at 336 px, hidden state -2; ConvNeXt-L at 768 px stays",
        "patch-info mining, 2-layer MLP",
        "576",
    ),
    open=open_checkpoint,
    parts={part: hub_id for part, (hub_id, _, _) in PARTS.items()},
    holds_clip=False,
    encode=None,  # the ConvNeXt needs the pixels themselves
    replay=None,
)
