"""Logits of a tiny Flamingo as open_flamingo computes them, for `test_med_flamingo_model.py`.

The stored numbers (`open_flamingo_numbers.json`) were made by this file with the public packages, one rule at a time:

    pip install --no-deps open-flamingo==2.0.1 open-clip-torch==2.20.0 einops==0.8.2 einops-exts==0.0.4   # text looks back
    python tests/mllm_adapters/open_flamingo_numbers.py
    pip install --no-deps open-flamingo==0.0.2                                                            # text looks ahead
    python tests/mllm_adapters/open_flamingo_numbers.py

beside torch 2.15.0 and transformers 5.23.0, on a CPU. Both versions pin packages too old for Python 3.11, hence `--no-deps`;
open_clip 2.20 is of Med-Flamingo's time. Weights and inputs come from a generator whose stream numpy keeps fixed, seeded with
their names.
"""

import importlib.metadata
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

STORED = Path(__file__).with_suffix(".json")
VOCABULARY, IMAGE, WIDTH = 24, 22, 32
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "hidden_act": "quick_gelu",
}
EVERY = 2  # a gated block before the second and the fourth layer


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform within 0.3, around 1 for the scales of norms."""
    noise = torch.from_numpy(np.random.RandomState(zlib.crc32(name.encode())).uniform(-0.3, 0.3, shape)).float()
    is_scale = "norm" in name or name.endswith(("ff.0.weight", ".1.0.weight")) or ".ln_" in name
    return noise + 1 if is_scale and name.endswith("weight") else noise


def inputs() -> dict[str, Tensor]:
    """Two rows of two images each: the first with text before, between and behind them, the second padded on the left."""
    first = [1, 5, IMAGE, 6, 7, 8, IMAGE, 9, 10, 11]
    second = [0, 0, 1, IMAGE, 12, 13, IMAGE, IMAGE - 1, 14, 15]
    ids = torch.tensor([first, second])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": values("pixels", (4, 3, 16, 16)) * 5}


def reference_model() -> torch.nn.Module:
    """open_flamingo's own Flamingo, put together as its factory does."""
    import open_clip.transformer
    from open_flamingo.src.factory import _infer_decoder_layers_attr_name
    from open_flamingo.src.flamingo import Flamingo
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin
    from open_flamingo.src.utils import extend_instance

    visual = open_clip.transformer.VisionTransformer(
        image_size=VISION["image_size"],
        patch_size=VISION["patch_size"],
        width=VISION["hidden_size"],
        layers=VISION["num_hidden_layers"],
        heads=VISION["num_attention_heads"],
        mlp_ratio=VISION["intermediate_size"] / VISION["hidden_size"],
        output_dim=8,
        act_layer=open_clip.transformer.QuickGELU,
        output_tokens=True,
    )
    visual.ln_post = torch.nn.Identity()  # open_clip 2.20 does not apply it to patches, 2.24 and later do
    clip = torch.nn.Module()
    clip.visual = visual
    language_model = LlamaForCausalLM(LlamaConfig(**TEXT))
    extend_instance(language_model, FlamingoLMMixin)
    language_model.set_decoder_layers_attr_name(_infer_decoder_layers_attr_name(language_model))
    model = Flamingo(
        clip, language_model, VOCABULARY - 3, IMAGE, VISION["hidden_size"], cross_attn_every_n_layers=EVERY
    )
    filled = {name: values(canonical(name), tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    model.load_state_dict(filled)
    return model.eval()


def canonical(name: str) -> str:
    """One name for the several under which open_flamingo holds a tensor; versions differ in the rest."""
    name = name.replace("lang_encoder.old_decoder_blocks.", "lang_encoder.model.layers.").replace(
        ".decoder_layer.", "."
    )
    if name.startswith("lang_encoder.gated_cross_attn_layers."):
        layer, _, rest = name.removeprefix("lang_encoder.gated_cross_attn_layers.").partition(".")
        name = f"lang_encoder.model.layers.{layer}.gated_cross_attn_layer.{rest}"
    return name.replace("vision_encoder.visual.", "vision_encoder.")


@torch.no_grad()
def reference_logits() -> Tensor:
    """[2, 10, vocabulary]."""
    given = inputs()
    images = given["pixel_values"].view(2, 2, 1, 3, 16, 16)
    output = reference_model()(images, given["input_ids"], given["attention_mask"])
    return output.logits


def saved_shapes() -> dict[str, list[int]]:
    """What open_flamingo 0.0.2's training saves of the model: the state but for parameters that are frozen, buffers included."""
    model = reference_model().requires_grad_(False)
    for part in (
        model.perceiver,
        model.lang_encoder.gated_cross_attn_layers,
        model.lang_encoder.get_input_embeddings(),
    ):
        part.requires_grad_(True)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in frozen}


def rule() -> str:
    """Which of our rules the installed open_flamingo follows."""
    return "next" if importlib.metadata.version("open_flamingo").startswith("0.") else "previous"


if __name__ == "__main__":
    numbers = json.loads(STORED.read_text()) if STORED.is_file() else {}
    rounded = [[[round(x, 6) for x in position] for position in row] for row in reference_logits().tolist()]
    numbers[rule()] = {"open_flamingo": importlib.metadata.version("open_flamingo"), "logits": rounded}
    numbers[rule()]["saved"] = saved_shapes()
    STORED.write_text(json.dumps(numbers, indent=None, separators=(",", ":")) + "\n")
