"""LLaVA-Med v1.5: LLaVA's tower and connector on Mistral-7B-Instruct, published in the layout of LLaVA's own repository.

Transformers does not know that layout (`llava_mistral`). Here it becomes transformers' LLaVA around Mistral, which loads in plain
transformers, with this tower or another; from there on it is a LLaVA.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mllm_adapters.checkpoints.json_files import Json, read_json
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.terms import Source
from mllm_adapters.hosts.llava import host as llava
from mllm_adapters.hosts.llava import layout as llava_layout
from mllm_adapters.modules.native_checkpoint import read_native


def prompt(question: str) -> str:
    """The question in the form of Mistral's instructions, without a system sentence."""
    return f"[INST] <image>\n{question} [/INST]"


def open_checkpoint(directory: Path, _parts: Mapping[str, Path]) -> Source:
    """A checkpoint in the published layout, or one that was converted before.

    Raises:
        FormatError: if it is damaged, incomplete, or holds tensors of something else.
        HostError: if it is of another family.
    """
    if read_json(directory / "config.json").get("model_type") == HOST.model_type:
        return read_native(HOST, directory)
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


def owns(config: Json) -> bool:
    """A LLaVA whose language model is a Mistral."""
    return bool(config.get("text_config", {}).get("model_type") == "mistral")


HOST = replace(
    llava.HOST,
    name="llava-med",
    title="LLaVA-Med v1.5",
    checkpoint="microsoft/llava-med-v1.5-mistral-7b",
    prompt=prompt,
    open=open_checkpoint,
    owns=owns,
)
