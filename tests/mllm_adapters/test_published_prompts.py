"""Each host asks as the chat template of its published processor does, as public code and transformers' own tests show it."""

import pytest

from mllm_adapters.hosts.llava.host import SYSTEM
from mllm_adapters.hosts.registry import get_host

#: What the published template makes of one image and "Why?", without the first token that a tokenizer puts in front by itself.
PUBLISHED = {
    "llava-next": "[INST] <image>\nWhy? [/INST]",
    "llava-onevision": "<|im_start|>user <image>\nWhy?<|im_end|><|im_start|>assistant\n",
    "gemma3": "<start_of_turn>user\n<start_of_image>Why?<end_of_turn>\n<start_of_turn>model\n",
    "idefics3": "User:<image>Why?<end_of_utterance>\nAssistant:",
    "smolvlm": "<|im_start|>User:<image>Why?<end_of_utterance>\nAssistant:",
    "internvl": "<|im_start|>user\n<IMG_CONTEXT>\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    "janus-pro": "<|User|>: <image_placeholder>\nWhy?\n\n<|Assistant|>:",
    "qwen2-vl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Why?<|im_end|>\n<|im_start|>assistant\n",
    "qwen3-vl": "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Why?<|im_end|>\n<|im_start|>assistant\n",
    "llama3.2-vision": "<|start_header_id|>user<|end_header_id|>\n\n<|image|>Why?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_prompt_is_that_of_the_published_template(name: str) -> None:
    assert get_host(name).prompt("Why?") == PUBLISHED[name]


def test_llava_1_5_keeps_the_sentence_that_its_template_leaves_out() -> None:
    assert get_host("llava").prompt("Why?") == f"{SYSTEM} USER: <image>\nWhy? ASSISTANT:"
