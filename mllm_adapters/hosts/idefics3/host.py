"""Idefics3: SigLIP-So400m on the whole image and on its tiles of 364 px, pixel shuffle and one linear layer, Llama 3.

A graft sees the photograph once, as its donor was trained (see `mllm_adapters.hosts.llava_next`). Where the host's block of
the shuffle does not divide the donor's grid, the next smaller one that does takes its place: the linear layer behind it is
new for another width in any case. The class builds its own SigLIP, so a graft loads with `mllm_adapters.load`.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost, as_last_hidden_state

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYER = "connector.modality_projection.proj.weight"


class Idefics3(LastHiddenStateHost):
    """Idefics3; SmolVLM2 inherits from it."""

    name = "idefics3"
    title = "Idefics3"
    family = "Idefics"
    checkpoint = "HuggingFaceM4/Idefics3-8B-Llama3"
    model_type = "idefics3"
    model_class = "Idefics3ForConditionalGeneration"
    tower = "model.vision_model"
    tower_keys = r"model\.vision_model\."
    connector: tuple[str, ...] = ("connector.modality_projection",)
    lora_targets = r".*text_model.*\.(q|k|v|o|gate|up|down)_proj"
    geometry = (
        "SigLIP-So400m/14 on the image and its tiles of 364 px, last state after the norm",
        "pixel shuffle, one linear layer",
        "169 a tile",
    )
    marker = "<image>"
    dynamic = True

    def prompt(self, question: str) -> str:
        """The question as one turn of the family's conversation; Llama 3's tokenizer puts its first token in front."""
        return f"User:<image>{question}<end_of_utterance>\nAssistant:"

    def answer(self, letter: str) -> str:
        """The letter after a space; the space belongs to the letter's token."""
        return f" {letter}"

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Send the donor's grid through a pixel shuffle, and make the linear layer new where it does not fit.

        Raises:
            HostError: if the donor lacks the feature layer, or the class token is to be kept.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        config, vision = files["config.json"], files["config.json"]["vision_config"]
        spec = tower_spec(donor, settings, _grid(vision), post_norm=True)
        if spec.class_token:
            raise HostError(
                "the pixel shuffle takes a square of patches and no class token; leave --feature-select alone"
            )
        block = int(config.get("scale_factor", 2))
        if spec.tokens != "pooled":
            block = max(side for side in range(1, block + 1) if spec.grid % side == 0)
        features = 1 if spec.tokens == "pooled" else (spec.grid // block) ** 2
        config["scale_factor"] = block
        # the class counts tokens by these, and builds a tower that the donor replaces
        vision |= {"image_size": spec.size, "patch_size": spec.geometry.stride}
        vision |= {"hidden_size": spec.width, "num_attention_heads": 1}
        use_squares(files, donor.preprocessing.model_copy(update={"size": spec.size}), image_seq_len=features)
        return Plan(
            files=files,
            features=features,
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width * block**2, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """Number of image tokens of one tile."""
        found = files.get("processor_config.json", {}).get("image_seq_len")
        return self.features(files) if found is None else int(found)

    def features(self, files: dict[str, Json]) -> int:
        """Number of vectors behind the pixel shuffle for one tile."""
        config = files["config.json"]
        return int((_grid(config["vision_config"]) // config.get("scale_factor", 2)) ** 2)

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, with its tokens as the last hidden state; a pooled feature fills one block of the pixel shuffle."""
        from mllm_adapters.modules.grafted_tower import GraftedTower

        block = config.scale_factor**2 if spec.tokens == "pooled" else 1
        return GraftedTower(spec, lambda tokens: as_last_hidden_state(tokens.repeat(1, block, 1)))

    def processor(self, directory: Path) -> Any:
        """Load the stock processor with tiles in a row; that of a graft does the donor's own preprocessing."""
        from mllm_adapters.hosts.idefics3.processor import load_processor

        return load_processor(directory)

    def encode(self, tower: "nn.Module", config: Any, inputs: "dict[str, Tensor]") -> "Tensor":
        """The last hidden state of all tiles, in the axes that the model asks of pixels: [tiles, 1, 1, tokens, width]."""
        size = config.vision_config.patch_size
        mask = inputs["pixel_attention_mask"].flatten(0, 1).unfold(1, size, size).unfold(2, size, size)
        states: Tensor = tower(
            pixel_values=inputs["pixel_values"].flatten(0, 1), patch_attention_mask=mask.sum((-1, -2)) > 0
        ).last_hidden_state
        return states[:, None, None]

    def replay(self, tower: "nn.Module", config: Any) -> "nn.Module":
        """A module that returns kept tokens as the last hidden state."""
        from mllm_adapters.modules.grafted_tower import Replay

        return Replay(lambda kept: as_last_hidden_state(kept.squeeze(1)))


def _grid(vision: Json) -> int:
    return int(vision.get("image_size", 224)) // int(vision.get("patch_size", 32))


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    found = next((part.shape for name, part in source.tensors.items() if name.endswith(LAYER)), None)
    if found is None:
        raise HostError(f"no tensor named *{LAYER}: is this a whole Idefics3 or SmolVLM checkpoint?")
    fits = found[1] == width and settings.connector == "keep"
    return () if fits else (NewTensor(LAYER, (found[0], width), width),)
