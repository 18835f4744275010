"""InstructBLIP: EVA-CLIP-g at 224 px, a Q-Former of 32 queries that also reads the question, Vicuna or Flan-T5.

The language model is given 32 vectors whatever the tower does: token policies change how many features the Q-Former looks at. Only
its cross-attention's keys and values depend on the tower's width, and it has no positions for features.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host, Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec, tower_spec
from mllm_adapters.modules import last_hidden_state
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.native_checkpoint import read_native

if TYPE_CHECKING:
    from torch import nn


GRID, WIDTH = 16, 1408  # of the published tower, whose shape the published config.json leaves to the class
LOOKS = r"qformer\.encoder\.layer\.\d+\.crossattention\.attention\.(key|value)\.(weight|bias)"
CONNECTOR = r"(qformer|language_projection)\."


def prompt(question: str) -> str:
    """The question as InstructBLIP's training sets put it; the processor puts the image in front."""
    return f"Question: {question} Answer:"


def answer(letter: str) -> str:
    """What follows the prompt, or stands in the decoder; the space belongs to the letter's token."""
    return f" {letter}"


def open_checkpoint(directory: Path, _parts: Mapping[str, Path]) -> Source:
    """A checkpoint as transformers writes it.

    Raises:
        FormatError: if it is damaged or incomplete.
        HostError: if it is of another family, or older than transformers' image token.
    """
    source = read_native(HOST, directory)
    if source.files["config.json"].get("image_token_index") is None:
        raise HostError(
            f"{directory} has no image_token_index: it is older than November 2024, when these checkpoints were given an <image>"
            " token; download it again"
        )
    source.files.setdefault("processor_config.json", {}).setdefault("num_query_tokens", _queries(source.files))
    return source


def plan(source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
    """Configuration, processor and new connector tensors for this donor.

    Raises:
        HostError: when the feature layer lies beyond the donor's depth, or the donor does not see RGB.
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


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """Keys and values over features of another width; on demand the whole Q-Former and the projection behind it."""
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


def placeholders(files: dict[str, Json]) -> int:
    """As the processor's file says."""
    return int(files["processor_config.json"]["num_query_tokens"])


def shim(spec: TowerSpec, _config: Any) -> "nn.Module":
    """The donor's tokens in the first field of the output, where the Q-Former reads them."""
    from mllm_adapters.modules.grafted_tower import GraftedTower

    return GraftedTower(spec, last_hidden_state.hand_on)


def processor(directory: Path) -> Any:
    """The processor of a directory."""
    from mllm_adapters.hosts.instructblip.processor import SteadyInstructBlipProcessor

    return SteadyInstructBlipProcessor.from_pretrained(directory)


HOST = Host(
    name="instructblip",
    title="InstructBLIP",
    checkpoint="Salesforce/instructblip-vicuna-7b",
    model_type="instructblip",
    model_class="InstructBlipForConditionalGeneration",
    tower="vision_model",
    tower_keys=r"vision_model\.",
    connector=("qformer", "language_projection"),
    # Vicuna's names, then T5's
    lora_targets=r".*language_model\..*\.(?:(?:q|k|v|o|gate|up|down)_proj|(?:SelfAttention|EncDecAttention)\.[qkvo]|wi(?:_\d)?|wo)",
    prompt=prompt,
    answer=answer,
    plan=plan,
    placeholders=placeholders,
    geometry=(
        "EVA-CLIP-g/14 at 224 px, 1408 wide, after its last norm",
        "Q-Former of 32 queries and a linear map",
        "32",
    ),
    open=open_checkpoint,
    shim=shim,
    processor=processor,
    encode=last_hidden_state.encode,
    replay=last_hidden_state.replay,
    bridges=True,
    second_text=("qformer_input_ids", "qformer_attention_mask"),
)
