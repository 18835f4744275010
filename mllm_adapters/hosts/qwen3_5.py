"""Qwen3.5: Qwen3-VL's tower and merger without DeepStack, in front of a language model that is mostly recurrent (Gated DeltaNet).

Three of four layers read the text as a stream, so that no token can be left out of what a later one sees: prompts of one question
share no pass. The checkpoints think before they answer unless the turn says that they have; a letter is read with thinking off.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm_adapters.contract.terms import GraftSettings, NewTensor, Source
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.hosts.qwen2_vl.host import MERGER, Qwen2VL, merger_shapes
from mllm_adapters.hosts.qwen3_vl.host import NEEDED, merger_tensors

if TYPE_CHECKING:
    from torch import nn


class Qwen35(Qwen2VL):
    """Qwen3.5, the dense ones; all that is not said here is Qwen2-VL's."""

    name = "qwen3.5"
    title = "Qwen3.5"
    checkpoint = "Qwen/Qwen3.5-9B"
    model_type = "qwen3_5"
    model_class = "Qwen3_5ForConditionalGeneration"
    lora_targets = r".*language_model.*\.((q|k|v|o|gate|up|down)_proj|in_proj_(qkv|z)|out_proj)"
    preamble = ""
    geometry = (
        "ViT 1152 wide, patches of 16 px, any size",
        "merger of 2 x 2 patches, 2-layer MLP",
        "any; 256 at 512 px",
    )
    parity_pixels = 512
    whole_prompts = True

    def prompt(self, question: str) -> str:
        """The question as one turn of ChatML, and an answer that has nothing to think about."""
        return (
            f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n\n"
        )

    def build_tower(self, spec: TowerSpec, config: Any) -> "nn.Module":
        """The donor, and behind it a merger of its width."""
        # inside functions, because listing the hosts needs neither torch nor transformers
        from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5VisionPatchMerger

        from mllm_adapters.hosts.qwen2_vl.visual import GraftedVisual

        vision = copy.deepcopy(config.vision_config)
        vision.hidden_size = spec.width
        return GraftedVisual(spec, Qwen3_5VisionPatchMerger(vision), vision.spatial_merge_size)

    def processor(self, directory: Path) -> Any:
        """Load the stock processor, which is Qwen3-VL's; that of a graft does the donor's own preprocessing."""
        from transformers import Qwen3VLProcessor

        from mllm_adapters.hosts.qwen2_vl.visual import load_with_grids

        return load_with_grids(Qwen3VLProcessor, directory)

    def _new_tensors(
        self, source: Source, spec: TowerSpec, block: int, settings: GraftSettings
    ) -> tuple[NewTensor, ...]:
        """The whole merger where the widths differ or with `--connector new`."""
        found = merger_shapes(source, MERGER, NEEDED)
        if found["norm.weight"] == (spec.width,) and settings.connector == "keep":
            return ()
        return merger_tensors(MERGER, spec.width, spec.width * block, found["linear_fc2.weight"][0])
