"""Tiny checkpoints as OpenGVLab publishes them: true tensor names, configuration fields and tokenizer files; no code of theirs."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration

SIZE, PATCH, WIDTH, HIDDEN, HEADS, KEYS = 32, 8, 16, 32, 4, 2
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
TEXT = "What is shown in the picture? system user assistant A B C D a question and its answer"
#: config.json of the tower in OpenGVLab/InternVL2-8B, but for the sizes.
VISION = {
    "architectures": ["InternVisionModel"],
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "image_size": SIZE,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-06,
    "model_type": "intern_vit_6b",
    "norm_type": "layer_norm",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": PATCH,
    "qk_normalization": False,
    "qkv_bias": True,
    "return_dict": True,
    "torch_dtype": "float32",
    "use_bfloat16": True,
    "use_flash_attn": True,
}
CONFIG = {
    "_commit_hash": None,
    "architectures": ["InternVLChatModel"],
    "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": SIZE,
    "max_dynamic_patch": 2,
    "min_dynamic_patch": 1,
    "model_type": "internvl_chat",
    "pad2square": False,
    "ps_version": "v2",
    "select_layer": -1,
    "template": "internvl2_5",
    "torch_dtype": "float32",
    "use_backbone_lora": 0,
    "use_llm_lora": 0,
    "use_thumbnail": True,
}
TEXT_SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "initializer_range": 0.02,
}
#: `llm_config` of the published ones by the language model's kind.
LANGUAGES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151643,
        "max_window_layers": 70,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
    },
    "internlm2": {
        "architectures": ["InternLM2ForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
        "attn_implementation": "flash_attention_2",
        "bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "model_type": "internlm2",
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rope_theta": 1000000,
        "tie_word_embeddings": False,
        "use_bfloat16": True,
    },
}

LANGUAGES["qwen3"] = LANGUAGES["qwen2"] | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8}
LANGUAGES["internlm3"] = LANGUAGES["internlm2"] | {
    "architectures": ["InternLM3ForCausalLM"],
    "head_dim": 8,
    "model_type": "internlm3",
    "qkv_bias": False,
}
#: What transformers calls these language models.
IN_TRANSFORMERS = {"qwen2": "qwen2", "qwen3": "qwen3", "internlm2": "llama", "internlm3": "llama"}
#: What is otherwise in the larger tower, InternViT-6B.
LARGE = {"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False}


def save_published(kind: str, directory: Path, tower: dict[str, Any] | None = None) -> InternVLForConditionalGeneration:
    """Write the folder; returns the -hf form of the same weights, of transformers' own classes."""
    directory.mkdir(parents=True)
    tokens = (_byte_pairs if "qwen" in kind else _pieces)(directory)
    vision = VISION | (tower or {})
    model = _hf_model(kind, tokens, vision)
    language = LANGUAGES[kind] | TEXT_SIZES | {"vocab_size": tokens}
    (directory / "config.json").write_text(json.dumps(CONFIG | {"llm_config": language, "vision_config": vision}))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [92542, 92543]}))
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": "CLIPFeatureExtractor"}))
    (directory / "modeling_internvl_chat.py").write_text("raise SystemExit('remote code was run')\n")
    tensors = published_tensors(kind, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    names, weight_map = list(tensors), {}
    for i in range(2):
        shard = f"model-{i + 1:05d}-of-00002.safetensors"
        chosen = names[i * len(names) // 2 : (i + 1) * len(names) // 2]
        save_file({name: tensors[name].contiguous() for name in chosen}, directory / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, shard)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return model


def _hf_model(kind: str, tokens: int, published: dict[str, Any]) -> InternVLForConditionalGeneration:
    text = TEXT_SIZES | {"model_type": IN_TRANSFORMERS[kind], "vocab_size": tokens, "head_dim": HIDDEN // HEADS}
    text |= {"rms_norm_eps": LANGUAGES[kind]["rms_norm_eps"], "rope_theta": 1e6}
    same = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    vision = {key: published[key] for key in (*same, "norm_type")} | {"attention_bias": published["qkv_bias"]}
    vision |= {"use_qk_norm": published["qk_normalization"]}
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=vision | {"image_size": [SIZE, SIZE], "patch_size": [PATCH, PATCH]},
        text_config=text,
        image_token_id=tokens - len(ADDED) + ADDED.index("<IMG_CONTEXT>"),
        image_seq_length=(SIZE // PATCH) ** 2 // 4,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config).eval()
    with torch.no_grad():  # biases and norms start at 0 and 1; make every tensor telling
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def published_tensors(kind: str, hf: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of transformers' class under the published names, its maps joined as the published classes read them."""
    renames = {
        "model.vision_tower.": "vision_model.",
        "model.language_model.": "language_model.model.",
        "model.multi_modal_projector.layer_norm.": "mlp1.0.",
        "model.multi_modal_projector.linear_1.": "mlp1.1.",
        "model.multi_modal_projector.linear_2.": "mlp1.3.",
        "embeddings.cls_token": "embeddings.class_embedding",
        "position_embeddings": "position_embedding",
        "patch_embeddings.projection": "patch_embedding",
        "encoder.layer.": "encoder.layers.",
        "attention.projection_layer": "attn.proj",
        "attention.q_norm": "attn.q_norm",
        "attention.k_norm": "attn.k_norm",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "lambda_": "ls",
        "lm_head": "language_model.lm_head",
    }
    if kind == "internlm2":
        renames |= {
            "embed_tokens": "tok_embeddings",
            "self_attn.o_proj": "attention.wo",
            "mlp.gate_proj": "feed_forward.w1",
            "mlp.down_proj": "feed_forward.w2",
            "mlp.up_proj": "feed_forward.w3",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "ffn_norm",
            "language_model.lm_head": "language_model.output",
        }
    found: dict[str, Tensor] = {}
    for name, tensor in hf.items():
        new = name
        for old, published in renames.items():
            new = new.replace(old, published)
        vision = name.startswith("model.vision_tower.")
        if ".q_proj." in name and (vision or kind == "internlm2"):
            q, k, v = (hf[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv")
            if vision:
                found[new.replace("attention.q_proj", "attn.qkv")] = torch.cat((q, k, v))
            else:
                grouped = [part.reshape(KEYS, -1, HIDDEN // HEADS, HIDDEN) for part in (q, k, v)]
                found[new.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(grouped, 1).reshape(-1, HIDDEN)
        elif not (any(f".{x}_proj." in name for x in "kv") and (vision or kind == "internlm2")):
            found[new] = tensor
    return found


def _settings(directory: Path, tokenizer_class: str, added: dict[int, str], **more: object) -> None:
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    decoder = {str(i): {"content": text, **plain} for i, text in added.items()}
    content = {"added_tokens_decoder": decoder, "tokenizer_class": tokenizer_class, "model_max_length": 8192, **more}
    (directory / "tokenizer_config.json").write_text(json.dumps(content))
    (directory / "added_tokens.json").write_text(json.dumps({text: i for i, text in added.items()}))


def _byte_pairs(directory: Path) -> int:
    """Qwen2's files: bytes, a few pairs, and added tokens behind them. Returns the number of tokens."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("i", "s"), ("Ġ", "is"), ("u", "s"), ("us", "er")]
    for letters in ("is", "Ġis", "us", "er", "user"):
        vocabulary[letters] = len(vocabulary)
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(map(" ".join, [*merges[:3], ("e", "r"), merges[3]]))
    )
    added = dict(enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>", *ADDED), start=len(vocabulary)))
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None}
    _settings(directory, "Qwen2Tokenizer", added, add_prefix_space=False, **ends)
    return len(vocabulary) + len(added)


def _pieces(directory: Path) -> int:
    """InternLM2's files: sentencepiece without a space in front; some added tokens have the numbers of unused pieces."""
    import sentencepiece

    model, unused = io.BytesIO(), [f"[UNUSED_TOKEN_{i}]" for i in (145, 146)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=unused,
        minloglevel=2,
    )
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    added = {0: "<unk>", 1: "<s>", 2: "</s>", **dict(enumerate(ADDED, start=340))}
    added |= {pieces.piece_to_id(unused[0]): "<|im_end|>", pieces.piece_to_id(unused[1]): "<|im_start|>"}
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    auto_map = {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}
    _settings(directory, "InternLM2Tokenizer", added, auto_map=auto_map, **ends)
    return 340 + len(ADDED)
