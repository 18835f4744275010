"""LLaVA-Med v1.5: LLaVA's tower and connector on Mistral-7B-Instruct, published in the layout of LLaVA's own repository.

Transformers does not know that layout (`llava_mistral`). The checkpoint is therefore written as transformers' LLaVA around
Mistral, which loads in plain transformers with its own tower or another.
"""

from collections.abc import Mapping
from pathlib import Path

from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.terms import Source
from mllm_adapters.hosts.llava import layout as llava_layout
from mllm_adapters.hosts.llava.host import Llava


class LlavaMed(Llava):
    """LLaVA-Med v1.5: a LLaVA whose language model is Mistral."""

    name = "llava-med"
    title = "LLaVA-Med v1.5"
    checkpoint = "microsoft/llava-med-v1.5-mistral-7b"

    preamble = ""

    def prompt(self, question: str) -> str:
        """The question in the form of Mistral's instructions, without a system sentence."""
        return f"[INST] <image>\n{question} [/INST]"

    def open(self, directory: Path, parts: Mapping[str, Path]) -> Source:
        """Read a checkpoint in the published layout, or one that was converted before.

        Raises:
            FormatError: if it is damaged, incomplete, or holds tensors of something else.
            HostError: if it is of another family.
        """
        if read_json(directory / "config.json").get("model_type") == self.model_type:
            return self.read_native(directory)
        old = llava_layout.read_config(directory, "llava_mistral")
        tensors = llava_layout.rename(read_checkpoint(directory), directory)
        vision = llava_layout.vision_config(tensors, directory)
        config = llava_layout.llava_config(old, vision, "mistral")
        tokenizer = llava_layout.add_tokens(directory, config, tensors)
        processor = llava_layout.processor_files(
            vision["image_size"],
            vision["patch_size"],
            pad=old.get("image_aspect_ratio") == "pad",
            select=config["vision_feature_select_strategy"],
        )
        return Source(directory, {"config.json": config, **processor, **tokenizer}, tensors)

    def owns(self, config: Json) -> bool:
        """Whether the language model is a Mistral."""
        return bool(config.get("text_config", {}).get("model_type") == "mistral")
