"""The demo's decoder for a family whose image stands in front of all text, as InstructBLIP's does.

The decoder was warmed on images behind an opening sentence. Where nothing stands in front of the finding it reads 87 % of the
questions. A LoRA, trained for a minute on the same questions, mends that; it ships with the package and is merged here, so that
this family's decoder is the shared one but for a change of rank 8. `recipes/train_demo_decoder.py --image-first true` makes it.
"""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load, save_file
from transformers import LlamaForCausalLM

from mgll.files import atomic_path
from mllm_adapters.demo.conversation import conversation_tokenizer
from mllm_adapters.demo.decoder import IMAGE, shipped_decoder
from mllm_adapters.demo.reading_training import teach_reading
from mllm_adapters.demo.settings import ReadingTraining
from mllm_adapters.hosts.registry import get_host

SHIPPED = "image_first.safetensors"
FAMILY = "instructblip"


def image_first_decoder() -> LlamaForCausalLM:
    """The decoder that ships with the package, with the LoRA merged: in float32 and evaluation mode."""
    model = _with_lora(shipped_decoder())
    stored = load(files("mllm_adapters.demo").joinpath(SHIPPED).read_bytes())
    set_peft_model_state_dict(model, {name: tensor.float() for name, tensor in stored.items()})
    merged: LlamaForCausalLM = model.merge_and_unload()
    return merged.eval()


def image_first_sha256() -> str:
    """Hex SHA-256 of the LoRA's file that ships with the package."""
    return hashlib.sha256(files("mllm_adapters.demo").joinpath(SHIPPED).read_bytes()).hexdigest()


def save_lora(model: PeftModel, path: Path) -> None:
    """Write the LoRA as a safetensors file in float16."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def train_image_first(settings: ReadingTraining, report: Callable[[dict[str, float]], None] | None = None) -> PeftModel:
    """Train the LoRA; the same settings and thread count give the same weights.

    Args:
        settings: settings of the run.
        report: see `mllm_adapters.demo.reading_training.teach_reading`.
    """
    host = get_host(FAMILY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = _with_lora(shipped_decoder())
    teach_reading(model, conversation_tokenizer(host, IMAGE), host, settings, report)
    return model


def _with_lora(decoder: LlamaForCausalLM) -> PeftModel:
    targets = r".*\.(q|k|v|o|gate|up|down)_proj"
    found = get_peft_model(decoder, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets))
    assert isinstance(found, PeftModel)
    return found
