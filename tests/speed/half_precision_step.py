"""A fine-tuning step in bfloat16 on a CPU against what torch and transformers do by themselves; ratios, side by side.

    taskset -c 1 python tests/speed/half_precision_step.py [--tokens 81 120] [--batch 16] [--rounds 2]

The model has the shapes of SmolLM2-135M and random weights. Times are processor time of this process with one thread; forms take
turns, and the fastest round counts.

- by themselves: logits of the last positions by a slice, torch's fused attention.
- ours: the positions by a list (`forward_options`), and plain products where there are few tokens (`attention_for`).
- float32: ours, in float32. Where the processor does not multiply in bfloat16 by itself, this is the faster one.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mgll.device import multiplies_in_bfloat16
from mgll.training.precision import attention_for
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.prompting.answer_slot import forward_options

CPU, KEPT = torch.device("cpu"), 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", nargs="+", type=int, default=[81, 120])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("bfloat16 is this processor's own" if multiplies_in_bfloat16(CPU) else "this processor has no bfloat16")
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1_536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    in_full = LlamaForCausalLM(config).requires_grad_(False)
    in_half = LlamaForCausalLM(config).requires_grad_(False).bfloat16()
    print(
        "| tokens | by themselves | ours | float32 | ours against by themselves | against float32 |\n|---|---|---|---|---|---|"
    )
    for tokens in options.tokens:
        forms = {"by themselves": (in_half, False), "ours": (in_half, True), "float32": (in_full, True)}
        seconds = dict.fromkeys(forms, float("inf"))
        for _ in range(options.rounds + 1):  # the first prepares the products
            for name, (model, ours) in forms.items():
                seconds[name] = min(seconds[name], _step(model, ours, options.batch, tokens))
        own, usual, full = seconds["ours"], seconds["by themselves"], seconds["float32"]
        print(f"| {tokens} | {usual:.2f} s | {own:.2f} s | {full:.2f} s | {usual / own:.2f} x | {full / own:.2f} x |")


def _step(model: LlamaForCausalLM, ours: bool, batch: int, tokens: int) -> float:
    """Seconds of one forward and backward pass."""
    embeddings = torch.randn(batch, tokens, model.config.hidden_size, dtype=model.dtype, requires_grad=True)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    options = forward_options(model, get_host("llava"), mask, KEPT) if ours else {"logits_to_keep": KEPT}
    half = model.dtype != torch.float32
    start = time.process_time()
    with attention_for(CPU, half, tokens) if ours else nullcontext():
        model(inputs_embeds=embeddings, attention_mask=mask, **options).logits.float().logsumexp(-1).mean().backward()
    return time.process_time() - start


if __name__ == "__main__":
    main()
