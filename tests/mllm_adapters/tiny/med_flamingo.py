"""A tiny Med-Flamingo under the names that `mllm_adapters.hosts.med_flamingo.host` writes, random weights, gates open."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.images.preprocessing import Preprocessing
from mllm_adapters.hosts.med_flamingo.model import MedFlamingoConfig, MedFlamingoForConditionalGeneration
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

SIZE, PATCH = 32, 8


def save_med_flamingo(directory: Path) -> None:
    """Tower 16 wide with a 4 x 4 grid, 4 latents, a gated block before the second layer; language model 32 wide."""
    tokenizer = byte_tokenizer(end_token="<|endofchunk|>", image_token="<image>")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": len(tokenizer), "max_position_embeddings": 1024}
    config = MedFlamingoConfig(
        vision_config=sizes | {"hidden_size": 16, "intermediate_size": 32, "image_size": SIZE, "patch_size": PATCH},
        text_config=sizes | text | {"pad_token_id": tokenizer.pad_token_id},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        cross_attn_every_n_layers=2,
        num_latents=4,
        perceiver_depth=2,
        heads=2,
        head_dim=8,
    )
    torch.manual_seed(0)
    model = MedFlamingoForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with torch.no_grad():  # a closed gate would hide the image
        for name, parameter in model.named_parameters():
            parameter.fill_(0.5) if name.endswith("_gate") else parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory, max_shard_size="40KB")
    preprocessing = Preprocessing(size=SIZE, resize="crop")
    images = LlavaImageProcessor(**image_processor_settings(preprocessing))
    PlaceholderProcessor(images, tokenizer).save_pretrained(directory)
