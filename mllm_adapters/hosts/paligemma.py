"""PaliGemma 2: SigLIP-So400m at 224 px and more, one linear layer, Gemma 2.

Image and question see each other in both directions, and only what follows them is read from left to right. So prompts share
no pass over their start, and tokens behind the prompt are marked (`token_type_ids`). The class builds its own SigLIP, so a
graft loads with `mllm_adapters.load`.
"""

import copy
from pathlib import Path
from typing import Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json, json_files
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost

LAYER = "multi_modal_projector.linear"


class PaliGemma(LastHiddenStateHost):
    """PaliGemma and PaliGemma 2."""

    name = "paligemma"
    title = "PaliGemma 2"
    family = "Gemma"
    checkpoint = "google/paligemma2-3b-mix-224"
    model_type = "paligemma"
    model_class = "PaliGemmaForConditionalGeneration"
    tower = "model.vision_tower"
    tower_keys = r"(?:model\.)?vision_tower\.(?:vision_model\.)?"
    connector = ("multi_modal_projector",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    geometry = (
        "SigLIP-So400m/14 at 224, 448 or 896 px, last state after the norm",
        "one linear layer",
        "256 at 224 px",
    )
    whole_prompts = True
    replaces_image_token = True

    def prompt(self, question: str) -> str:
        """The question as the mixed checkpoints were tuned on: task, language, and a line break before the answer."""
        return f"<image>answer en {question}\n"

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter

    def behind_prompt(self, name: str, last: Any) -> Any:
        """An answer is read from left to right."""
        return 1 if name == "token_type_ids" else super().behind_prompt(name, last)

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Hand on the donor's own grid, and make the linear layer new where the widths differ.

        Raises:
            HostError: if the donor lacks the feature layer.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        vision = files["config.json"]["vision_config"]
        spec = tower_spec(donor, settings, _grid(vision), post_norm=True)
        # the class builds a tower of this width and counts its tokens so; nothing of it is kept
        vision |= {"image_size": spec.size, "patch_size": spec.geometry.stride}
        vision |= {"hidden_size": spec.width, "num_attention_heads": 1}
        use_squares(files, donor.preprocessing.model_copy(update={"size": spec.size}), image_seq_length=spec.count)
        return Plan(
            files=files,
            features=spec.count,
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in a graft's file; of an untouched host that of its image processor."""
        for name in ("processor_config.json", "preprocessor_config.json"):
            found = files.get(name, {})
            found = {**found.get("image_processor", {}), **found}
            if "image_seq_length" in found:
                return int(found["image_seq_length"])
        return self.features(files)

    def features(self, files: dict[str, Json]) -> int:
        """Number of patches of its own tower."""
        return _grid(files["config.json"]["vision_config"]) ** 2

    def processor(self, directory: Path) -> Any:
        """Load the stock processor without what it adds for training; that of a graft does the donor's own preprocessing."""
        from mllm_adapters.modules.gemma_processors import AsAsked
        from mllm_adapters.modules.square_images import load_with_squares

        processor = load_with_squares(AsAsked, directory)
        # the processor takes it from its part for images when it is loaded again
        processor.image_seq_length = processor.image_processor.image_seq_length = self.placeholders(
            json_files(directory)
        )
        return processor


def _grid(vision: Json) -> int:
    return int(vision.get("image_size", 224)) // int(vision.get("patch_size", 14))


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    found = next((part.shape for name, part in source.tensors.items() if name.endswith(f"{LAYER}.weight")), None)
    if found is None:
        raise HostError(f"no tensor named *{LAYER}.weight: is this a whole PaliGemma checkpoint?")
    if found[1] == width and settings.connector == "keep":
        return ()
    return (NewTensor(f"{LAYER}.weight", (found[0], width), width), NewTensor(f"{LAYER}.bias", found[:1], width))
