"""Med-Flamingo: CLIP ViT-L/14 at 224 px, a perceiver of 64 latents, LLaMA-7B with gated cross-attention before every fourth layer.

The image has one place in the text, the token `<image>`; what is seen comes in by cross-attention. The perceiver has no positions,
so it takes any number of tokens. It is as wide as the tower: a donor of another width makes perceiver and gated blocks new.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.tower.config import CLIP
from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, NewTensor, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.hosts.llava.host import grid_side, saved_vision
from mllm_adapters.hosts.med_flamingo.layout import PARTS, read_published, shapes
from mllm_adapters.modules.hidden_states import HiddenStatesHost, check_reading
from mllm_adapters.modules.image_processor import image_processor_settings


class MedFlamingo(HiddenStatesHost):
    """Med-Flamingo, a Flamingo of LLaMA-7B and CLIP ViT-L/14."""

    name = "med-flamingo"
    title = "Med-Flamingo"
    family = "Flamingo"
    checkpoint = "med-flamingo/med-flamingo"
    model_type = "mgll_med_flamingo"
    model_class = "mllm_adapters.hosts.med_flamingo.model:MedFlamingoForConditionalGeneration"
    tower = "vision_tower"
    tower_keys = r"vision_tower\."
    connector = ("perceiver", "gated_cross_attn_layer")
    lora_targets = r".*language_model\.model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj"
    marker = "<image>"
    preamble = "You are a helpful medical assistant. "
    geometry = (
        "CLIP ViT-L/14 at 224 px, last hidden state",
        "perceiver and 8 gated cross-attention blocks",
        "1 (64 latents)",
    )
    parts = PARTS

    def prompt(self, question: str) -> str:
        """The question in the form that Med-Flamingo was trained on, without examples before it."""
        return f"You are a helpful medical assistant. <image>Question: {question} Answer:"

    def answer(self, letter: str) -> str:
        """The letter after a space; the space belongs to the letter's token."""
        return f" {letter}"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Change configuration and processor to those of this donor, and make new what does not fit its width.

        Raises:
            HostError: if the donor lacks the feature layer, or does not see RGB.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from transformers import CLIPVisionConfig

        files = copy.deepcopy(source.files)
        config = files["config.json"]
        layer, select = config["vision_feature_layer"], config["vision_feature_select_strategy"]
        host_grid = grid_side(config["vision_config"])
        tower = tower_spec(donor, settings, host_grid, layer, class_token=select == "full")
        stock = tower.kind == CLIP and tower.tokens != "pooled" and tower.grid == tower.geometry.grid
        config |= {
            "vision_config": saved_vision(CLIPVisionConfig(**tower.config).to_dict()) if stock else tower.stand_in(),
            "vision_feature_layer": tower.layer if stock else -1,
            "vision_feature_select_strategy": "full" if tower.class_token or not stock else "default",
        }
        preprocessing = donor.preprocessing.model_copy(update={"size": tower.size})
        files["processor_config.json"]["image_processor"] = image_processor_settings(preprocessing)
        return Plan(
            files=files,
            features=self.placeholders(files),  # the latents do not stand in the text
            tower=None if stock else tower,
            positions=tower.positions(donor),
            new=self._new_tensors(source, config, settings),
            unchanged_behaviour=stock and _behaviour(source.files) == _behaviour(files),
        )

    def _new_tensors(self, source: Source, config: Json, settings: GraftSettings) -> tuple[NewTensor, ...]:
        """Tensors of perceiver and gated blocks that do not fit the donor; all, with closed gates, under `--connector new`."""
        same_width = config["vision_config"]["hidden_size"] == source.tensors["perceiver.latents"].shape[1]
        if same_width and settings.connector == "keep":
            return ()
        new = []
        for name, tensor in shapes(config).items():
            shape, connector = tuple(tensor.shape), any(part in name for part in self.connector)
            if connector and (settings.connector == "new" or shape != source.tensors[name].shape):
                is_map = len(shape) > 1 and name != "perceiver.latents"
                is_scale = name.endswith("weight") and len(shape) == 1
                fill = None if len(shape) > 1 else float(is_scale)
                new.append(NewTensor(name, shape, shape[-1] if is_map else 1, fill))
        return tuple(new)

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in the processor's file: one."""
        return int(files["processor_config.json"]["count"])

    def features(self, files: dict[str, Json]) -> int:
        """One, as there is one place in the text.

        Raises:
            HostError: if the tower does not have the hidden state that the perceiver reads.
        """
        check_reading(files["config.json"])
        return self.placeholders(files)

    def left_out(self, directory: Path, parts: Mapping[str, Path], own_tower: bool) -> Mapping[str, str]:
        """The two parts that are not in the published file; CLIP's configuration is needed even where its weights go."""
        return {} if (directory / "config.json").is_file() else self.parts

    def open(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read the published file together with LLaMA and CLIP, or a checkpoint that was converted before.

        Raises:
            FormatError: if it is damaged or incomplete.
            HostError: if it is of another family, or a part is not given.
        """
        native = (directory / "config.json").is_file()
        return self.read_native(directory) if native else read_published(directory, parts)

    def processor(self, directory: Path) -> Any:
        """Load the processor of a directory."""
        from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

        return PlaceholderProcessor.from_pretrained(directory)


def _behaviour(files: dict[str, Json]) -> Json:
    """Everything outside the weights that decides what the model sees of an image."""
    from transformers import CLIPVisionConfig

    config, image = files["config.json"], files["processor_config.json"]["image_processor"]
    vision = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    keys = ("size", "do_center_crop", "crop_size", "do_pad", "resample", "image_mean", "image_std")
    return {
        "vision": saved_vision(CLIPVisionConfig(**vision).to_dict()),
        "layer": config["vision_feature_layer"],
        "select": config["vision_feature_select_strategy"],
        **{key: image.get(key) for key in keys},
    }
