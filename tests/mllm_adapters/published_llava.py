"""Tiny checkpoints as LLaVA's own repository writes them: true tensor names, configuration fields, files and split into shards."""

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, HIDDEN, LAYERS, VOCABULARY = 64, 32, 2, 340
TOWER_LAYERS, PATCH, LOW = 3, 4, 16
TEXT = "What is shown in the picture? [INST] A B C D [/INST] USER: ASSISTANT: a question and its answer"


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that its name decides, from the generator whose stream numpy keeps fixed; scales of norms lie around 1."""
    noise = 0.2 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1 and not name.endswith("bias"):
        noise = noise + 1
    return torch.from_numpy(noise).float()


def language_shapes(key_width: int = HIDDEN) -> dict[str, tuple[int, ...]]:
    """Llama's tensors, or Mistral's where keys are narrower, as `save_pretrained` orders them; the head comes last of all."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {f"{layer}self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qo"}
        shapes |= {f"{layer}self_attn.{part}_proj.weight": (key_width, HIDDEN) for part in "kv"}
        shapes |= {f"{layer}mlp.{part}_proj.weight": (48, HIDDEN) for part in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj.weight": (HIDDEN, 48)}
        shapes |= {f"{layer}{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (HIDDEN,)}


def tower_shapes() -> dict[str, tuple[int, ...]]:
    """The CLIP tower, as it lies below LLaVA's own wrapper."""
    tower = "model.vision_tower.vision_tower.vision_model."
    shapes: dict[str, tuple[int, ...]] = {
        f"{tower}embeddings.class_embedding": (WIDTH,),
        f"{tower}embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        f"{tower}embeddings.position_embedding.weight": (1 + (LOW // PATCH) ** 2, WIDTH),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for i in range(TOWER_LAYERS):
        layer = f"encoder.layers.{i}."
        linears = {f"{layer}self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("k", "v", "q", "out")}
        linears |= {f"{layer}mlp.fc1": (32, WIDTH), f"{layer}mlp.fc2": (WIDTH, 32)}
        for name, shape in linears.items():
            shapes |= {f"{tower}{name}.weight": shape, f"{tower}{name}.bias": shape[:1]}
        norms += [f"{layer}layer_norm1", f"{layer}layer_norm2"]
    return shapes | {f"{tower}{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}


def linear(name: str, out: int, fan_in: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias."""
    return {f"{name}.weight": (out, fan_in), f"{name}.bias": (out,)}


def connector_shapes() -> dict[str, tuple[int, ...]]:
    """The two-layer MLP."""
    return linear("model.mm_projector.0", HIDDEN, WIDTH) | linear("model.mm_projector.2", HIDDEN, HIDDEN)


def save_published(directory: Path, tensors: dict[str, Tensor], config: dict[str, Any], shards: int = 3) -> None:
    """Write the folder: shards in the order of the tensors, so that the last holds layers, tower, connector and head."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    names, weight_map = list(tensors), {}
    for i in range(shards):
        path = directory / f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        chosen = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        save_file({name: tensors[name] for name in chosen}, path, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, path.name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    save_tokenizer(directory)


def save_tokenizer(directory: Path) -> None:
    """A small sentencepiece model of Llama's kind, with the settings files that lie beside the published one."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    special = {
        name: {"content": text, **plain}
        for name, text in zip(("bos", "eos", "unk"), ("<s>", "</s>", "<unk>"), strict=True)
    }
    named = {f"{name}_token": token for name, token in special.items()}
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(i): {**special[name], "special": True} for i, name in enumerate(("unk", "bos", "eos"))
        },
        "additional_special_tokens": [],
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": True,
        "model_max_length": 2048,
        "pad_token": "<unk>",
        "padding_side": "right",
        "sp_model_kwargs": {},
        "spaces_between_special_tokens": False,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "special_tokens_map.json").write_text(json.dumps({**named, "pad_token": "<unk>"}))


def prompt_ids(directory: Path, prompt: str, image: int, count: int) -> list[int]:
    """The prompt as LLaVA's own repository tokenises it: each stretch of text beside `<image>` by itself, one start token."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    first, *others = (pieces.encode(stretch) for stretch in prompt.split("<image>"))
    return [1, *first, *(i for ids in others for i in [image] * count + ids)]
