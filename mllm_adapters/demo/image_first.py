"""The demo's decoder for a family whose image stands in front of all text, as InstructBLIP's does.

The decoder was warmed on images behind an opening sentence. Where nothing stands in front of the finding it reads 87 % of the
questions. A LoRA, trained for a minute on the same questions, mends that; it ships with the package and is merged here, so that
this family's decoder is the shared one but for a change of rank 8. `recipes/train_demo_decoder.py --image-first true` makes it.
"""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load, save_file
from torch import nn
from transformers import LlamaForCausalLM

from mgll.files import atomic_path
from mgll.vocabulary.questions import LETTERS
from mllm_adapters.demo.conversation import conversation_tokenizer
from mllm_adapters.demo.decoder import IMAGE, shipped_decoder
from mllm_adapters.demo.decoder_training import bags_of_words, noisy_mixtures
from mllm_adapters.demo.reading import draw_question, in_words, text_of
from mllm_adapters.demo.settings import ImageFirstTraining
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


def train_image_first(
    settings: ImageFirstTraining, report: Callable[[dict[str, float]], None] | None = None
) -> PeftModel:
    """Train the LoRA; the same settings and thread count give the same weights.

    Args:
        settings: settings of the run.
        report: called after every step with `step`, `loss`, `accuracy` and `spread` (1 or 0) of its batch.
    """
    host = get_host(FAMILY)
    tokenizer = conversation_tokenizer(host, IMAGE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = _with_lora(shipped_decoder()).train()
    rng, generator = np.random.default_rng([settings.seed, 3]), torch.Generator().manual_seed(settings.seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    table = model.get_input_embeddings().weight
    named = (bags_of_words(tokenizer) @ table).detach()
    for step in range(1, settings.steps + 1):
        spread = bool(rng.random() < settings.spread)
        questions = [draw_question(rng, spread) for _ in range(settings.batch_size)]
        seen: list[torch.Tensor] = []
        if spread:
            weights = torch.tensor(np.stack([question.weights for question in questions]), dtype=torch.float32)
            seen = list(
                noisy_mixtures(
                    weights, named, int(rng.integers(1, settings.most_positions + 1)), settings.noise, generator
                )
            )
        else:
            words = [
                tokenizer(in_words(question, rng), add_special_tokens=False)["input_ids"] for question in questions
            ]
            seen = [table[torch.tensor(ids)].detach() for ids in words]
        asked = [tokenizer(host.prompt(text_of(question)))["input_ids"] for question in questions]
        rows = [torch.cat((front, table[torch.tensor(ids)])) for front, ids in zip(seen, asked, strict=True)]
        longest = max(map(len, rows))
        embeddings = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long()
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits
        targets = torch.tensor([tokenizer.convert_tokens_to_ids(LETTERS[question.answer]) for question in questions])
        loss = nn.functional.cross_entropy(logits[:, -1], targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if report:
            right = (logits[:, -1].argmax(-1) == targets).float().mean()
            report({"step": step, "loss": float(loss.detach()), "accuracy": float(right), "spread": float(spread)})
    return model.eval()


def _with_lora(decoder: LlamaForCausalLM) -> PeftModel:
    targets = r".*\.(q|k|v|o|gate|up|down)_proj"
    found = get_peft_model(decoder, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets))
    assert isinstance(found, PeftModel)
    return found
