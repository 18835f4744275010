"""LLaVA-NeXT (1.6) on Mistral: CLIP ViT-L/14 at 336 px on the whole image and on its tiles, a two-layer MLP.

The untouched host sees the whole image and up to four tiles of it, one after the other, each row of tiles ended by a vector of its
own. A graft sees the photograph once, as its donor was trained: no text of its pretraining belongs to a quarter of an eye, and
hosts with and without tiles stay comparable. In config.json this is a list of resolutions without any tile, `[[0, 0]]`, which the
stock class reads as one view; its processor does not, so a graft loads with `mllm_adapters.load`.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mgll.tower.config import CLIP
from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.hosts.llava.host import CLASS_TOKEN_FIRST, CLIP_L_336, grid_side, projector_tensors
from mllm_adapters.modules.hidden_states import HiddenStatesHost, check_reading
from mllm_adapters.modules.image_processor import image_processor_settings


class LlavaNext(HiddenStatesHost):
    """LLaVA-NeXT on Mistral; LLaVA-OneVision inherits from it.

    Attributes:
        text_model: `model_type` of the language model on whose conversation form `prompt` is written.
        processor_classes: names of its processors in `mllm_adapters.modules.one_view`, of the untouched host and of a graft.
        unsaid: what the class assumes of its tower where config.json says nothing.
        reads: hidden state and selection of tokens that it assumes.
    """

    name = "llava-next"
    title = "LLaVA-NeXT"
    family = "LLaVA"
    checkpoint = "llava-hf/llava-v1.6-mistral-7b-hf"
    model_type = "llava_next"
    model_class = "LlavaNextForConditionalGeneration"
    tower = "model.vision_tower"
    tower_keys = r"(?:model\.)?vision_tower\.(?:vision_model\.)?"
    connector = ("multi_modal_projector",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    geometry = (
        "CLIP ViT-L/14 on the image and 2 to 4 tiles of 336 px, hidden state -2",
        "2-layer MLP, a line break",
        "576 a tile",
    )
    marker = "<image>\n"
    dynamic = True
    text_model = "mistral"
    processor_classes = ("LlavaNextInARow", "LlavaNextOfGraft")
    unsaid: Mapping[str, Any] = MappingProxyType({**CLIP_L_336, "model_type": CLIP})
    reads: tuple[int, str] = (-2, "default")

    def prompt(self, question: str) -> str:
        """The question in the form of Mistral's instructions."""
        return f"[INST] <image>\n{question} [/INST]"

    def answer(self, letter: str) -> str:
        """The letter after a space; the space belongs to the letter's token."""
        return f" {letter}"

    def read_native(self, directory: Path) -> Source:
        """Read a checkpoint in the layout of transformers.

        Raises:
            FormatError: if it is damaged or incomplete.
            HostError: if it is of another family, or around a language model with another conversation form.
        """
        source = super().read_native(directory)
        found = source.files["config.json"].get("text_config", {}).get("model_type")
        if found != self.text_model:
            raise HostError(
                f"{directory}: its language model is a {found!r}; {self.title} has the prompt of a {self.text_model!r} here;"
                f" take {self.checkpoint}"
            )
        return source

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """One view by the donor, and the MLP's first layer new where the widths differ.

        Raises:
            HostError: if the donor lacks the feature layer or the class token that is to be kept.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import FILE

        files = copy.deepcopy(source.files)
        config = files["config.json"]
        layer = config.get("vision_feature_layer", self.reads[0])
        if not isinstance(layer, int):
            raise HostError(f"this host reads the hidden states {layer}, a graft gives one; set --feature-layer")
        keeps = self._has_class_token(config) and self._select(config) == "full"
        spec = tower_spec(donor, settings, grid_side(self._vision(config)), layer, class_token=keeps)
        features = spec.count + 1
        config |= {
            "vision_config": spec.stand_in(),
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "image_grid_pinpoints": [[0, 0]],
        }
        preprocessing = donor.preprocessing.model_copy(update={"size": spec.size})
        files[FILE] = image_processor_settings(preprocessing) | {"image_tokens": features}
        return Plan(
            files=files,
            features=features,
            tower=spec,
            positions=spec.positions(donor),
            new=projector_tensors(source, spec.width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number that a graft's file gives; of an untouched host that of one view and its line break."""
        if square := files.get("square_images.json"):
            return int(square["image_tokens"])
        config = files["config.json"]
        check_reading(
            {"vision_feature_layer": self.reads[0], "vision_feature_select_strategy": self.reads[1], **config}
        )
        select = self._select(config)
        return grid_side(self._vision(config)) ** 2 + self._has_class_token(config) - (select == "default") + 1

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft makes one view by the donor's own preprocessing."""
        from mllm_adapters.modules import one_view
        from mllm_adapters.modules.square_images import load_with_squares

        own, of_graft = (getattr(one_view, name) for name in self.processor_classes)
        return load_with_squares(own, directory, of_graft, one_view.OneView)

    def _vision(self, config: Json) -> Json:
        return {**self.unsaid, **config.get("vision_config", {})}

    def _has_class_token(self, config: Json) -> bool:
        return self._vision(config)["model_type"] in CLASS_TOKEN_FIRST

    def _select(self, config: Json) -> str:
        return str(config.get("vision_feature_select_strategy", self.reads[1]))
