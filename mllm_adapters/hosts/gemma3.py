"""Gemma 3 and MedGemma: SigLIP at 896 px, 4 x 4 patches averaged, a norm and one matrix, Gemma.

The class builds its own SigLIP, so a graft loads with `mllm_adapters.load`. Image tokens see each other in both directions, text
sees only what came before it; `token_type_ids`, which the processor makes, say which is which.
"""

import copy
from pathlib import Path
from typing import Any

from mgll.tower.file import TowerHeader
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, NewTensor, Source
from mllm_adapters.contract.tower_spec import tower_spec
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost


class Gemma3(LastHiddenStateHost):
    """Gemma 3 with its vision tower, MedGemma among them."""

    name = "gemma3"
    title = "Gemma 3"
    family = "Gemma"
    checkpoint = "google/medgemma-4b-it"
    model_type = "gemma3"
    model_class = "Gemma3ForConditionalGeneration"
    tower = "model.vision_tower"
    tower_keys = r"(?:model\.)?vision_tower\.(?:vision_model\.)?"
    connector = ("multi_modal_projector",)
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    whole_prompts = True  # image tokens see each other, and most layers see a window only
    replaces_image_token = True
    marker = "<start_of_image>"
    geometry = ("SigLIP-So400m/14 at 896 px, last state after the norm", "4 x 4 mean, norm, one matrix", "256")

    def prompt(self, question: str) -> str:
        """The question as one turn of the family's conversation; the tokenizer puts its beginning-of-sequence token in front."""
        return f"<start_of_turn>user\n<start_of_image>{question}<end_of_turn>\n<start_of_turn>model\n"

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter

    def plan(self, source: Source, donor: TowerHeader, settings: GraftSettings) -> Plan:
        """Average the donor's grid in blocks only where it is the host's own large one; make a norm and matrix of its width.

        Raises:
            HostError: if the donor lacks the feature layer, or the class token is to be kept.
        """
        # inside functions, because listing the hosts needs neither torch nor transformers
        from mllm_adapters.modules.square_images import use_squares

        files = copy.deepcopy(source.files)
        config, vision = files["config.json"], files["config.json"]["vision_config"]
        host_grid = vision["image_size"] // vision["patch_size"]
        spec = tower_spec(donor, settings, host_grid, post_norm=True)
        if spec.class_token:
            raise HostError("the averaging takes a square of patches and no class token; leave --feature-select alone")
        grid = 1 if spec.tokens == "pooled" else spec.grid
        block = host_grid // round(config["mm_tokens_per_image"] ** 0.5) if settings.tokens.startswith("resize") else 1
        features = (grid // block) ** 2
        config["mm_tokens_per_image"] = features
        # the class derives the averaging from these, and builds a tower of this width that the donor replaces
        vision |= {"image_size": grid, "patch_size": 1, "hidden_size": spec.width, "num_attention_heads": 1}
        use_squares(files, donor.preprocessing.model_copy(update={"size": spec.size}), image_seq_length=features)
        return Plan(
            files=files,
            features=features,
            tower=spec,
            positions=spec.positions(donor),
            new=_new_tensors(source, spec.width, settings),
        )

    def placeholders(self, files: dict[str, Json]) -> int:
        """The number in the processor's file."""
        return int(files.get("processor_config.json", {}).get("image_seq_length", 256))

    def processor(self, directory: Path) -> Any:
        """Load the stock processor, given one image for each prompt; that of a graft does the donor's own preprocessing."""
        from mllm_adapters.modules.gemma_processors import OneImageAPrompt
        from mllm_adapters.modules.square_images import load_with_squares

        return load_with_squares(OneImageAPrompt, directory)


def _new_tensors(source: Source, width: int, settings: GraftSettings) -> tuple[NewTensor, ...]:
    """Norm and matrix where the widths differ or with `--connector new`; the weight of Gemma's norm counts from 0."""
    matrix = "multi_modal_projector.mm_input_projection_weight"
    found = next((part.shape for name, part in source.tensors.items() if name.endswith(matrix)), None)
    if found is None:
        raise HostError(f"no tensor named *{matrix}: is this a whole Gemma 3 checkpoint with its vision tower?")
    if found[0] == width and settings.connector == "keep":
        return ()
    norm = NewTensor("multi_modal_projector.mm_soft_emb_norm.weight", (width,), fill=0.0)
    return (norm, NewTensor(matrix, (width, found[1]), width))
