"""InternVL 2 to 3.5: InternViT on tiles of 448 px, pixel shuffle, LayerNorm and two linear layers, Qwen or InternLM.

The class builds an InternViT whatever the configuration says and would fill it with random weights, so a graft loads with
`mllm_adapters.load` only. A graft sees the photograph once, as the donor was trained, and not in tiles.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.hosts.internvl.layout import MODEL_TYPE, read_published
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost, as_last_hidden_state

if TYPE_CHECKING:
    from torch import nn

PROJECTOR = "multi_modal_projector"


class InternVL(LastHiddenStateHost):
    """InternVL 2 to 3.5, in the `-hf` layout or their makers' own."""

    name = "internvl"
    title = "InternVL"
    family = "InternVL"
    checkpoint = "OpenGVLab/InternVL3-8B-hf"
    model_type = "internvl"
    makers_types = (MODEL_TYPE,)
    model_class = "InternVLForConditionalGeneration"
    tower = "model.vision_tower"
    tower_keys = r"(?:model\.)?vision_tower\."
    connector = (PROJECTOR,)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    marker = "<IMG_CONTEXT>\n"
    geometry = (
        "InternViT-300M or 6B at 448 px a tile, last state",
        "pixel shuffle, LayerNorm, 2-layer MLP",
        "256 a tile",
    )
    bridges = True
    dynamic = True

    def prompt(self, question: str) -> str:
        """The question as one turn of ChatML."""
        return f"<|im_start|>user\n<IMG_CONTEXT>\n{question}<|im_end|>\n<|im_start|>assistant\n"

    def answer(self, letter: str) -> str:
        """The letter alone; the line break at the prompt's end is a token of its own."""
        return letter

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Send the donor's grid through the host's pixel shuffle, and give the projector's first layers the donor's width.

        Raises:
            HostError: if the donor lacks the feature layer, or its grid does not divide into the blocks of the shuffle.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        config, vision = files["config.json"], files["config.json"]["vision_config"]
        spec = tower_spec(
            donor,
            settings,
            _side(vision.get("image_size", 448)) // _side(vision.get("patch_size", 14)),
            host_width=vision.get("hidden_size", 1024),
        )
        block = round(1 / config.get("downsample_ratio", 0.5))
        if spec.tokens == "pooled":
            features = 1
        elif spec.grid % block or spec.class_token:
            raise HostError(
                f"pixel shuffle takes blocks of {block} x {block} patches and no class token; the donor hands on a grid of side"
                f" {spec.grid}{' and a class token' if spec.class_token else ''}; use --tokens resize_features"
            )
        else:
            features = (spec.grid // block) ** 2
        config |= {"image_seq_length": features, "vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
        # the projector is built for this width; of the tower that the class builds nothing is kept
        if not spec.bridge:
            vision |= {"hidden_size": spec.width, "num_attention_heads": 1}
        preprocessing = donor.preprocessing.model_copy(update={"size": spec.size})
        use_squares(files, preprocessing, image_seq_length=features)
        return Plan(
            files=files,
            features=features,
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width * block**2, settings),
        )

    def read_makers(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint of `internvl_chat`."""
        return read_published(directory)

    def placeholders(self, files: dict[str, Json]) -> int:
        """Number of image tokens for one tile."""
        return int(files.get("processor_config.json", {}).get("image_seq_length", 256))

    def features(self, files: dict[str, Json]) -> int:
        """Number of vectors behind the pixel shuffle for one tile."""
        config = files["config.json"]
        vision = config["vision_config"]
        grid = _side(vision.get("image_size", 448)) // _side(vision.get("patch_size", 14))
        return int(grid * config.get("downsample_ratio", 0.5)) ** 2

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, with its tokens as the last hidden state; a pooled feature fills one block of the pixel shuffle."""
        from mllm_adapters.modules.grafted_tower import GraftedTower

        block = round(1 / config.downsample_ratio) ** 2 if spec.tokens == "pooled" else 1
        return GraftedTower(spec, lambda tokens: as_last_hidden_state(tokens.repeat(1, block, 1)))

    def processor(self, directory: Path) -> Any:
        """Load the stock processor; that of a graft does the donor's own preprocessing."""
        from transformers import InternVLProcessor

        from mllm_adapters.modules.square_images import load_with_squares

        return load_with_squares(InternVLProcessor, directory)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    found = {
        name.rpartition(f"{PROJECTOR}.")[2]: part.shape for name, part in source.tensors.items() if PROJECTOR in name
    }
    if "linear_1.weight" not in found:
        raise HostError(
            f"no tensor named *{PROJECTOR}.linear_1.weight: is this a whole InternVL checkpoint in the -hf layout?"
        )
    out, old = found["linear_1.weight"]
    first, second = f"{PROJECTOR}.linear_1", f"{PROJECTOR}.linear_2"
    new: list[NewTensor] = []
    if width != old or settings.connector == "new":
        norm = f"{PROJECTOR}.layer_norm"
        new += [NewTensor(f"{norm}.weight", (width,), fill=1.0), NewTensor(f"{norm}.bias", (width,), fill=0.0)]
        new += [NewTensor(f"{first}.weight", (out, width), width), NewTensor(f"{first}.bias", (out,), width)]
    if settings.connector == "new":
        new += [NewTensor(f"{second}.weight", (out, out), out), NewTensor(f"{second}.bias", (out,), out)]
    return tuple(new)


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])
