"""LLaVA-1.5: CLIP ViT-L/14 at 336 px, hidden state -2 without the class token, a two-layer MLP, Vicuna.

The stock classes hold any CLIP or SigLIP tower, so a graft of such a tower loads in plain transformers. The MLP's first
layer reads the tower's width: a donor of another width makes that layer new.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mgll.images.preprocessing import Preprocessing
from mgll.tower.config import CLIP, CLIP_DEFAULTS
from mgll.tower.file import TowerHeader
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json, json_files
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import (
    TowerSpec,
    at_grid,
    check_donor,
    feature_layer,
    hands_class_token_on,
    tower_spec,
)
from mllm_adapters.hosts.llava.published import left_out, read_published
from mllm_adapters.modules.hidden_states import HiddenStatesHost, check_reading
from mllm_adapters.modules.image_processor import image_processor_settings

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant."
    " The assistant gives helpful, detailed, and polite answers to the user's questions."
)
#: `model_type` of the towers of transformers that put one class token, and nothing else, in front of the grid.
CLASS_TOKEN_FIRST = {CLIP, "dinov2", "vit", "beit"}
#: What the processor has to know to put in the right number of image tokens.
COUNTS = ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
#: What LlavaConfig assumes where config.json says nothing of the tower.
CLIP_L = "openai/clip-vit-large-patch14-336"
CLIP_L_336: Json = {"image_size": 336, "patch_size": 14, "hidden_size": 1024}


class Llava(HiddenStatesHost):
    """LLaVA-1.5; LLaVA-Med and Mini-Gemini inherit from it."""

    name = "llava"
    title = "LLaVA-1.5"
    family: str = "LLaVA"
    checkpoint = "llava-hf/llava-1.5-7b-hf"
    model_type = "llava"
    model_class = "LlavaForConditionalGeneration"
    tower = "model.vision_tower"
    tower_keys = r"(?:model\.)?vision_tower\.(?:vision_model\.)?"
    connector: tuple[str, ...] = ("multi_modal_projector",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    geometry = ("CLIP ViT-L/14 at 336 px, hidden state -2", "2-layer MLP", "576")
    stock_towers: tuple[str, ...] = ("clip_vision_model", "siglip_vision_model")
    first_linear: str | None = "multi_modal_projector.linear_1"
    parts: Mapping[str, str] = MappingProxyType({"clip": CLIP_L, "base": "lmsys/vicuna-7b-v1.5"})
    tower_part: str | None = "clip"
    makers_types: tuple[str, ...] = ("llava_llama",)
    #: `model_type` of the language model, of which the makers' own layout says nothing.
    text_model_type = "llama"
    marker = "<image>\n"
    preamble = f"{SYSTEM} "

    def prompt(self, question: str) -> str:
        """The question in the conversation form that Vicuna was tuned on."""
        return f"{SYSTEM} USER: <image>\n{question} ASSISTANT:"

    def answer(self, letter: str) -> str:
        """The letter after a space; the space belongs to the letter's token."""
        return f" {letter}"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Change configuration and processor to those of this donor, and make the MLP's first layer new where the widths differ.

        Raises:
            HostError: if the donor lacks the feature layer or the class token that is to be kept, or does not see RGB.
        """
        check_donor(donor)
        old = source.files["config.json"]
        layer, host_grid = _layer(donor, settings, old), grid_side(_vision(old))
        keeps = hands_class_token_on(donor, settings, old.get("vision_feature_select_strategy", "default") == "full")
        tower = self._grafted(donor, settings, host_grid, layer, keeps)
        if tower:  # what is handed on is all there is, and in the last place
            seen, vision, features, layer, select = tower.geometry, tower.stand_in(), tower.count, -1, "full"
        else:
            defaults = CLIP_DEFAULTS if donor.kind == CLIP else {}
            resized = at_grid(donor, host_grid) if settings.tokens == "resize_posemb" else donor
            seen, vision = resized.geometry, defaults | resized.config | {"model_type": donor.kind}
            features, select = seen.grid**2 + keeps, "full" if keeps or not seen.class_token else "default"

        files = copy.deepcopy(source.files)
        files["config.json"] |= {
            "vision_config": saved_vision(vision),
            "image_seq_length": features,
            "vision_feature_layer": layer,
            "vision_feature_select_strategy": select,
        }
        counts = {
            "patch_size": seen.stride,
            # the processor counts the grid of the pixels; what the tower adds or removes is told to it here
            "num_additional_image_tokens": features - (seen.size // seen.stride) ** 2 + (select == "default"),
            "vision_feature_select_strategy": select,
        }
        edit_processor(files, donor.preprocessing.model_copy(update={"size": seen.size}), counts)
        return Plan(
            files=files,
            features=features,
            tower=tower,
            positions=seen.grid if seen.size != donor.geometry.size else None,
            new=projector_tensors(
                source, vision["hidden_size"] * (len(layer) if isinstance(layer, list) else 1), settings
            ),
            unchanged_behaviour=tower is None and self._behaviour(source.files) == self._behaviour(files),
        )

    def _grafted(
        self, donor: TowerHeader, settings: GraftSettings, host_grid: int, layer: int | list[int], keeps: bool
    ) -> TowerSpec | None:
        """How the donor is run where the stock class cannot hold it or cannot follow the token policy; None where it can."""
        same_count = settings.tokens == "resize_features" and donor.geometry.grid == host_grid
        if donor.kind in self.stock_towers and (same_count or settings.tokens not in ("pooled", "resize_features")):
            return None
        if not isinstance(layer, int):
            raise HostError(
                f"this host reads the hidden states {layer}; a {donor.kind} donor under token policy {settings.tokens} gives one,"
                " set --feature-layer"
            )
        return tower_spec(donor, settings, host_grid, layer, class_token=keeps)

    def placeholders(self, files: dict[str, Json]) -> int:
        """Number of image tokens that LlavaProcessor puts in for a square image, computed from its files."""
        processor: Json = {}
        for name in reversed(PROCESSOR_FILES):
            processor |= files.get(name, {})
        image = processor.get("image_processor") or files.get("preprocessor_config.json", {})
        size = image["crop_size"] if image.get("do_center_crop", True) else image["size"]
        side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
        count = (side // processor["patch_size"]) ** 2 + (processor.get("num_additional_image_tokens") or 0)
        return int(count) - (processor["vision_feature_select_strategy"] == "default")

    def features(self, files: dict[str, Json]) -> int:
        """Number of tokens that the tower of these files hands on.

        Raises:
            HostError: if the tower does not have the hidden state that the connector reads.
        """
        config = files["config.json"]
        check_reading(config)
        select = config.get("vision_feature_select_strategy", "default")
        return grid_side(_vision(config)) ** 2 + _class_tokens(config) - (select == "default")

    def in_makers_layout(self, config: Json) -> bool:
        """Whether a config.json is LLaVA's own repository's, whose first ones have the `model_type` of transformers' LLaVA."""
        first = config.get("model_type") == self.model_type and "mm_vision_tower" in config
        return (first and "text_config" not in config) or super().in_makers_layout(config)

    def left_out(self, directory: Path, parts: Mapping[str, Path], own_tower: bool) -> Mapping[str, str]:
        """The base of an adapter, and the tower that most checkpoints of LLaVA's own repository only name."""
        published = self.in_makers_layout(read_json(directory / "config.json"))
        return left_out(directory, parts, self.parts, own_tower) if published else {}

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint of LLaVA's own repository, with what it leaves out."""
        return read_published(directory, parts, self.text_model_type, self.parts["clip"])

    def read_native(self, directory: Path) -> Source:
        """Read a checkpoint in the layout of transformers.

        Those from before autumn 2024 leave three facts out of the processor's file, which are taken from config.json.

        Raises:
            FormatError: if it is damaged or incomplete.
            HostError: if it is of another family.
        """
        source = super().read_native(directory)
        return replace(source, files=with_counts(source.files))

    def processor(self, directory: Path) -> Any:
        """Load the processor of a directory, with what its file leaves out."""
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(directory)
        for name, value in with_counts(json_files(directory))["processor_config.json"].items():
            if name in COUNTS:
                setattr(processor, name, value)
        return processor

    def _behaviour(self, files: dict[str, Json]) -> Json:
        """Everything outside the weights that decides what the language model is given for an image."""
        config = files["config.json"]
        processor = files.get("processor_config.json", {})
        image = processor.get("image_processor") or files.get("preprocessor_config.json", {})
        keys = ("do_center_crop", "do_pad", "image_mean", "image_std")
        vision = CLIP_DEFAULTS | config.get("vision_config", {})
        return {
            "kind": vision.get("model_type", "clip_vision_model"),
            "vision": {key: vision[key] for key in CLIP_DEFAULTS if not key.startswith(("initializer", "projection"))},
            "layer": config.get("vision_feature_layer", -2),
            "select": config.get("vision_feature_select_strategy", "default"),
            "placeholders": self.placeholders(files),
            **{key: image.get(key) for key in keys},
        }


def with_counts(files: dict[str, Json]) -> dict[str, Json]:
    """JSON files of a LLaVA in which the processor's says all from which the number of image tokens follows."""
    config, processor = (
        files["config.json"],
        files.get("processor_config.json") or {"processor_class": "LlavaProcessor"},
    )
    known = {
        "patch_size": _vision(config)["patch_size"],
        "num_additional_image_tokens": _class_tokens(config),
        "vision_feature_select_strategy": config.get("vision_feature_select_strategy", "default"),
    }
    elsewhere = files.get("preprocessor_config.json", {})
    lacking = {k: v for k, v in known.items() if processor.get(k) is None and elsewhere.get(k) is None}
    return files | {"processor_config.json": processor | lacking}


def _vision(config: Json) -> Json:
    return {**CLIP_L_336, **config.get("vision_config", {})}


def _class_tokens(config: Json) -> int:
    return int(_vision(config).get("model_type", CLIP) in CLASS_TOKEN_FIRST)


def _layer(donor: TowerHeader, settings: GraftSettings, old: Json) -> int | list[int]:
    """The index of the hidden state that the connector reads, or the indices where it reads several."""
    layer = old.get("vision_feature_layer", -2)
    if isinstance(layer, list) and settings.feature_layer is None:
        return [feature_layer(donor, settings, index) for index in layer]
    return feature_layer(donor, settings, layer)


def projector_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """What is new of the two-layer MLP for tokens of this width.

    Raises:
        HostError: if the checkpoint has no such MLP.
    """
    shapes = {name: part.shape for name, part in source.tensors.items()}
    suffix = "multi_modal_projector.linear_1.weight"
    weight = next((shape for name, shape in shapes.items() if name.endswith(suffix)), None)
    if weight is None:
        raise HostError(f"no tensor named *{suffix}: is this a whole LLaVA checkpoint?")
    out, old_width = weight
    layers = {
        "linear_1": (width, width != old_width or settings.connector == "new"),
        "linear_2": (out, settings.connector == "new"),
    }
    names = [
        (f"multi_modal_projector.{layer}.{part}", part, fan)
        for layer, (fan, renew) in layers.items()
        if renew
        for part in ("weight", "bias")
    ]
    present = {name.partition("multi_modal_projector.")[2] for name in shapes}
    return tuple(
        NewTensor(name, (out, fan) if part == "weight" else (out,), fan)
        for name, part, fan in names
        if name.partition(".")[2] in present
    )


def grid_side(vision: Json) -> int:
    """Number of patches along one side of the image; a rest narrower than a patch is not seen."""
    return int(vision["image_size"]) // int(vision["patch_size"])


def saved_vision(config: Json) -> Json:
    """The part of a CLIPVisionConfig that belongs into config.json."""
    skip = {"transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures"}
    return {key: value for key, value in config.items() if key not in skip and value is not None}


def edit_processor(files: dict[str, Json], preprocessing: Preprocessing, counts: Json) -> None:
    """Write the donor's preprocessing where transformers reads it: in the processor's file if it stands there, else in its own."""
    image = image_processor_settings(preprocessing)
    processor = files.setdefault("processor_config.json", {"processor_class": "LlavaProcessor"})
    processor |= counts
    if "image_processor" in processor:
        processor["image_processor"] = image
    if "preprocessor_config.json" in files or "image_processor" not in processor:
        files["preprocessor_config.json"] = {**image, "processor_class": "LlavaProcessor"}
