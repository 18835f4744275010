"""InstructBLIP: EVA-CLIP-g at 224 px, a Q-Former of 32 queries that also reads the question, Vicuna or Flan-T5.

The language model is given 32 vectors whatever the tower does: token policies change how many features the Q-Former looks at. Only
the keys and values of the Q-Former's cross-attention depend on the tower's width, and it has no positions for features.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost

GRID, WIDTH = 16, 1408  # of the published tower, whose shape the published config.json leaves to the class
LOOKS = r"qformer\.encoder\.layer\.\d+\.crossattention\.attention\.(key|value)\.(weight|bias)"
CONNECTOR = r"(qformer|language_projection)\."


class InstructBlip(LastHiddenStateHost):
    """InstructBLIP around Vicuna or Flan-T5."""

    name = "instructblip"
    title = "InstructBLIP"
    family = "BLIP"
    checkpoint = "Salesforce/instructblip-vicuna-7b"
    model_type = "instructblip"
    model_class = "InstructBlipForConditionalGeneration"
    tower = "vision_model"
    tower_keys = r"vision_model\."
    connector = ("qformer", "language_projection")
    # first the names of Vicuna's layers, then those of T5's
    lora_targets = (
        r".*language_model\..*\."
        r"(?:(?:q|k|v|o|gate|up|down)_proj|(?:SelfAttention|EncDecAttention)\.[qkvo]|wi(?:_\d)?|wo)"
    )
    geometry = (
        "EVA-CLIP-g/14 at 224 px, 1408 wide, after its last norm",
        "Q-Former of 32 queries and a linear map",
        "32",
    )
    bridges = True
    whole_prompts = True  # its image tokens depend on the question
    second_text = ("qformer_input_ids", "qformer_attention_mask")

    def prompt(self, question: str) -> str:
        """The question as InstructBLIP's training sets put it; the processor puts the image in front."""
        return f"Question: {question} Answer:"

    def answer(self, letter: str) -> str:
        """The letter after a space, which belongs to the letter's token; behind T5 it stands in the decoder."""
        return f" {letter}"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Change configuration, processor and the Q-Former's view of features to those of this donor.

        Raises:
            HostError: if the donor lacks the feature layer, or does not see RGB.
        """
        files = copy.deepcopy(source.files)
        config, own = files["config.json"], files["config.json"].get("vision_config", {})
        host_grid = own["image_size"] // own["patch_size"] if {"image_size", "patch_size"} <= own.keys() else GRID
        width = own.get("hidden_size", WIDTH)
        tower = tower_spec(donor, settings, host_grid, post_norm=True, class_token=True, host_width=width)
        if not tower.bridge:
            config["vision_config"] = tower.stand_in() | {"model_type": "instructblip_vision_model"}
        config.setdefault("qformer_config", {})["encoder_hidden_size"] = tower.width
        image = image_processor_settings(donor.preprocessing.model_copy(update={"size": tower.size}))
        if "image_processor" in files["processor_config.json"]:
            files["processor_config.json"]["image_processor"] = image
        else:
            files["preprocessor_config.json"] = image
        return Plan(
            files=files,
            features=_queries(files),
            tower=tower,
            positions=tower.positions(donor),
            new=_new_tensors(source, tower.width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in the processor's file."""
        return int(files["processor_config.json"]["num_query_tokens"])

    def features(self, files: dict[str, Json]) -> int:
        """Number of queries of the Q-Former."""
        return _queries(files)

    def open(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint as transformers writes it.

        Raises:
            FormatError: if it is damaged or incomplete.
            HostError: if it is of another family, or was written before transformers gave these checkpoints an image token.
        """
        source = self.read_native(directory)
        if source.files["config.json"].get("image_token_index") is None:
            raise HostError(
                f"{directory} has no image_token_index: it is older than November 2024, when these checkpoints were given an"
                " <image> token; download it again"
            )
        source.files.setdefault("processor_config.json", {}).setdefault("num_query_tokens", _queries(source.files))
        return source

    def processor(self, directory: Path) -> Any:
        """Load the processor of a directory."""
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.hosts.instructblip.processor import SteadyInstructBlipProcessor

        return SteadyInstructBlipProcessor.from_pretrained(directory)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """The Q-Former's keys and values where the widths differ; with `--connector new` all of Q-Former and projection."""
    new = []
    for name, part in sorted(source.tensors.items()):  # so that the seed gives the same however the shards were cut
        looks = re.fullmatch(LOOKS, name)
        shape = (part.shape[0], width) if looks and looks[2] == "weight" else part.shape
        other_width = looks and source.tensors[name.removesuffix(looks[2]) + "weight"].shape[1] != width
        if other_width or (settings.connector == "new" and re.match(CONNECTOR, name)):
            norm = "layernorm" in name.lower()
            fan_in = width if looks else shape[-1]
            new.append(NewTensor(name, shape, fan_in, float(name.endswith("weight")) if norm else None))
    return tuple(new)


def _queries(files: dict[str, Json]) -> int:
    return int(files["config.json"].get("num_query_tokens", 32))
