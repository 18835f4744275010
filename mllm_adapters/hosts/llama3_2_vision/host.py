"""Llama 3.2 Vision: a ViT on up to four tiles of 560 px, whose states a linear layer hands to eight cross-attention layers.

The image has one place in the text, as in Med-Flamingo; what is seen comes in by cross-attention. The published tower hands on
its last state, which eight further layers have mixed across the tiles, and beside it, channel by channel, the states behind five
earlier blocks. A graft reads the donor at the same fractions of its depth, and has neither tiles nor the eight layers: it sees
the photograph once, as its donor was trained. A donor that hands on one state alone gives the linear layer that one.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.modules.same_depths import same_depths

if TYPE_CHECKING:
    from torch import Tensor, nn

PROJECTOR, MASK = "multi_modal_projector", "cross_attention_mask"


class Llama32Vision(Host):
    """Llama 3.2 Vision."""

    name = "llama3.2-vision"
    title = "Llama 3.2 Vision"
    family = "Llama"
    checkpoint = "meta-llama/Llama-3.2-11B-Vision-Instruct"
    model_type = "mllama"
    model_class = "MllamaForConditionalGeneration"
    tower = "model.vision_model"
    tower_keys = r"(?:model\.)?vision_model\."
    connector = (PROJECTOR,)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    marker = "<|image|>"
    geometry = (
        "ViT-H/14 1280 wide on up to four tiles of 560 px, six states side by side",
        "one linear layer, 8 cross-attention layers",
        "1 (1601 vectors a tile)",
    )
    dynamic = True
    whole_prompts = True  # the cross-attention's mask has a row for each token of a plain text

    def prompt(self, question: str) -> str:
        """The question as one turn of Llama 3's conversation, whose first token the tokenizer puts in front."""
        return (
            f"<|start_header_id|>user<|end_header_id|>\n\n<|image|>{question}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        )

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter

    def behind_prompt(self, name: str, last: Any) -> Any:
        """An answer sees the tiles that the prompt's end sees."""
        return last if name == MASK else super().behind_prompt(name, last)

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Read the donor as deep as the host reads its own tower, and make the linear layer new where it does not fit.

        Raises:
            HostError: if the donor lacks the feature layer.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        vision = files["config.json"]["vision_config"]
        host_grid = vision.get("image_size", 448) // vision.get("patch_size", 14)
        spec = tower_spec(donor, settings, host_grid, post_norm=True, class_token=True)
        states = vision.get("intermediate_layers_indices", (3, 7, 15, 23, 30))
        deep = same_depths(spec, states, vision.get("num_hidden_layers", 32))
        width = spec.width * (1 + len(deep))
        # of the tower that the class builds nothing is kept; one tile, and so one aspect ratio
        vision |= {"intermediate_layers_indices": deep, "vision_output_dim": width}
        vision |= {"supported_aspect_ratios": [[1, 1]], "max_num_tiles": 1}
        preprocessing = donor.preprocessing.model_copy(update={"size": spec.size})
        use_squares(files, preprocessing)
        return Plan(
            files=files,
            features=1,  # what is seen does not stand in the text
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """One, whatever the image."""
        return 1

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, with its states side by side."""
        from mllm_adapters.hosts.llama3_2_vision.visual import SideBySide

        return SideBySide(spec, list(config.vision_config.intermediate_layers_indices))

    def processor(self, directory: Path) -> Any:
        """Load the stock processor for one image a prompt; that of a graft does the donor's own preprocessing."""
        from mllm_adapters.hosts.llama3_2_vision.processor import load_processor

        return load_processor(directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The states that the linear layer reads: [images, 1, tiles, tokens, width of all]."""
        states: Tensor = tower(**{name: value for name, value in inputs.items() if name != MASK}).last_hidden_state
        return states

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """A module that returns kept states as they are."""
        from mllm_adapters.hosts.llama3_2_vision.visual import ReplayedStates

        return ReplayedStates(tower)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    name = f"{PROJECTOR}.weight"
    found = next((part.shape for key, part in source.tensors.items() if key.endswith(name)), None)
    if found is None:
        raise HostError(f"no tensor named *{name}: is this a whole checkpoint of Llama 3.2 Vision?")
    if found[1] == width and settings.connector == "keep":
        return ()
    return (NewTensor(name, (found[0], width), width), NewTensor(f"{PROJECTOR}.bias", found[:1], width))
