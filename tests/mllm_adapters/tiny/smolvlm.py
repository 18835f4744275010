"""A tiny SmolVLM2 of real classes, random weights."""

from pathlib import Path

from tiny.idefics3 import save
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessor


def save_smolvlm(directory: Path) -> None:
    """As the tiny Idefics3."""
    save(SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessor, directory)
