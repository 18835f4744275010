"""A tiny Mini-Gemini of real classes, random weights."""

from pathlib import Path

import torch
from tiny_tokenizer import byte_tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, LlavaImageProcessor, LlavaProcessor

from mllm_adapters.hosts.mini_gemini.model import MiniGeminiConfig, MiniGeminiForConditionalGeneration

SIZE, LOW, PATCH = 64, 32, 8


def save_mini_gemini(directory: Path) -> None:
    """Low-resolution tower 16 wide with a 4 x 4 grid, so 16 image tokens; a map of 16 x 16 cells; language model 32 wide."""
    tokenizer = byte_tokenizer()
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = MiniGeminiConfig(
        vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=32, image_size=LOW, patch_size=PATCH, **sizes),
        text_config=LlamaConfig(hidden_size=32, intermediate_size=48, vocab_size=len(tokenizer), **sizes),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(LOW // PATCH) ** 2,
        low_image_size=LOW,
        convnext_dims=[4, 8, 12, 16],
        convnext_depths=[1, 1, 2, 1],
    )
    torch.manual_seed(0)
    model = MiniGeminiForConditionalGeneration(config)
    with torch.no_grad():  # layer scales start near 0, so that the ConvNeXt's blocks would hardly be seen
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
    model.save_pretrained(directory, max_shard_size="40KB")
    square = {"height": SIZE, "width": SIZE}
    LlavaProcessor(
        image_processor=LlavaImageProcessor(size=square, crop_size=square, do_center_crop=False, do_pad=True),
        tokenizer=tokenizer,
        patch_size=SIZE // (LOW // PATCH),
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(directory)
