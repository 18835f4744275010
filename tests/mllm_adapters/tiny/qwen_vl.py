"""A tiny Qwen-VL under the names that `mllm_adapters.hosts.qwen_vl.host` writes."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.hosts.qwen_vl.model import QwenVLConfig, QwenVLForConditionalGeneration
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

SIZE, PATCH, QUERY_GRID = 32, 8, 3


def save_qwen_vl(directory: Path) -> None:
    """Model and processor: a tower 20 wide on a grid of 4, a resampler of 9 queries, a decoder 32 wide."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(image_start="<img>", image_end="</img>", image_place="<imgpad>")
    config = QwenVLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "tie_word_embeddings": False,
        },
        vision_config={
            "image_size": SIZE,
            "patch_size": PATCH,
            "hidden_size": 20,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "position_grid": 3,
        },
        query_grid=QUERY_GRID,
        resampler_heads=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<imgpad>"),
    )
    model = QwenVLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():  # biases and norms start at 0 and 1; make every tensor telling
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory)
    settings = image_processor_settings(Preprocessing(size=SIZE, resize="squash"))
    processor = PlaceholderProcessor(
        LlavaImageProcessor(**settings),
        tokenizer,
        before="<img>",
        token="<imgpad>",
        after="</img>",
        count=QUERY_GRID**2,
    )
    processor.save_pretrained(directory)
