"""A tiny Idefics3 of real classes, random weights."""

from pathlib import Path
from typing import Any

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

SIZE, PATCH = 32, 8


def save_idefics3(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, so 4 image tokens a tile; images of up to 2 x 2 tiles; language model 32 wide."""
    save(Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, directory)


def save(config_class: Any, model_class: Any, images_class: Any, directory: Path) -> None:
    """The same of the classes of a relative."""
    images = images_class(size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE})
    processor = Idefics3Processor(images, byte_tokenizer(), image_seq_len=(SIZE // PATCH) ** 2 // 4)
    torch.manual_seed(0)
    model_class(config_class(**parts(processor.tokenizer))).save_pretrained(directory, max_shard_size="40KB")
    processor.save_pretrained(directory)


def parts(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of the configuration."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 1}
    vision = {"hidden_size": 16, "intermediate_size": 32, "image_size": SIZE, "patch_size": PATCH}
    return {
        "vision_config": vision | sizes,
        "text_config": text | sizes | ids | {"vocab_size": len(tokenizer)},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "scale_factor": 2,
    }
