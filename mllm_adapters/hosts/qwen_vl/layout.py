"""The published layout of Qwen-VL, read under the names of `mllm_adapters.hosts.qwen_vl.model`.

In that layout the decoder has GPT's names, one map makes queries, keys and values, tower and resampler are one module, and
tokenizer and image processor are remote code. This module writes all of that out; weights are renamed or cut, never computed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.weights.model_folder import read_json
from mgll.weights.reading import misfits
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable, renamed
from mllm_adapters.checkpoints.tensors import Part, read_checkpoint, rows
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.modules.image_processor import image_processor_settings

MARKER = "<image>"
RESAMPLER = "visual.resampler."
LAYER = "language_model.model.layers."
#: From the published names to those of our model. The published w2 is the one that goes through SiLU.
NAMES: NameTable = (
    (r"transformer\.visual\.attn_pool\.", RESAMPLER),
    (r"transformer\.visual\.(?=ln_post\.|proj$)", RESAMPLER),
    (r"transformer\.visual\.transformer\.resblocks\.", "visual.tower.blocks."),
    (r"transformer\.visual\.(?=conv1\.|positional_embedding$|ln_pre\.)", "visual.tower."),
    (r"transformer\.wte\.", "language_model.model.embed_tokens."),
    (r"transformer\.ln_f\.", "language_model.model.norm."),
    (r"lm_head\.", "language_model.lm_head."),
    (r"transformer\.h\.(\d+)\.ln_1\.", LAYER + r"\1.input_layernorm."),
    (r"transformer\.h\.(\d+)\.ln_2\.", LAYER + r"\1.post_attention_layernorm."),
    (r"transformer\.h\.(\d+)\.attn\.c_attn\.", LAYER + r"\1.self_attn.qkv."),
    (r"transformer\.h\.(\d+)\.attn\.c_proj\.", LAYER + r"\1.self_attn.o_proj."),
    (r"transformer\.h\.(\d+)\.mlp\.w1\.", LAYER + r"\1.mlp.up_proj."),
    (r"transformer\.h\.(\d+)\.mlp\.w2\.", LAYER + r"\1.mlp.gate_proj."),
    (r"transformer\.h\.(\d+)\.mlp\.c_proj\.", LAYER + r"\1.mlp.down_proj."),
)
_RECOMPUTED = r".*\.(?:rotary_emb\.inv_freq|attn\.(?:masked_)?bias)"


def read_published(directory: Path) -> Source:
    """Read the published checkpoint under the names of `QwenVLForConditionalGeneration`.

    Raises:
        FormatError: if it is damaged or incomplete, or its tokenizer is not the one that its configuration was made for.
        HostError: if it is of another family.
    """
    # inside functions, because listing the hosts needs neither torch nor transformers
    from mllm_adapters.hosts.qwen_vl.tokenizer import BYTE_PAIRS, tokenizer_files

    old = read_json(directory / "config.json")
    if "visual" not in old:
        raise HostError(f"{directory} is a Qwen without a vision tower; Qwen-VL or Qwen-VL-Chat is needed")
    if not (directory / BYTE_PAIRS).is_file():
        raise FormatError(directory, None, f"no {BYTE_PAIRS} in it, the tokenizer: not a whole checkpoint")
    config, files = _config(old), tokenizer_files(directory / BYTE_PAIRS)
    ids = {token["content"]: token["id"] for token in files["tokenizer.json"]["added_tokens"]}
    if ids["<imgpad>"] != config["image_token_id"]:
        raise FormatError(
            directory / BYTE_PAIRS, None, f"puts images at {ids['<imgpad>']}, config.json at {config['image_token_id']}"
        )
    files |= {
        "config.json": config,
        "generation_config.json": {
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
        },
        "processor_config.json": _processor_config(config),
    }
    tensors = _native(read_checkpoint(directory), directory)
    _check(tensors, config, directory)
    return Source(directory, files, tensors)


def _config(old: Json) -> Json:
    """Turn the published config.json into that of `QwenVLConfig`."""
    vision, heads = old["visual"], old["num_attention_heads"]
    text = {
        "model_type": "qwen2",
        "vocab_size": old["vocab_size"],
        "hidden_size": old["hidden_size"],
        "intermediate_size": old["intermediate_size"] // 2,  # the published number counts both maps into the MLP
        "num_hidden_layers": old["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "rms_norm_eps": old.get("layer_norm_epsilon", 1e-6),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(old.get("rotary_emb_base", 10000))},
        "max_position_embeddings": old.get("seq_length", 2048),
        "tie_word_embeddings": False,
    }
    tower = {
        "model_type": "mgll_qwen_vit",
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "hidden_size": vision["width"],
        "intermediate_size": int(vision["width"] * vision["mlp_ratio"]),
        "num_hidden_layers": vision["layers"],
        "num_attention_heads": vision["heads"],
    }
    return {
        "architectures": ["QwenVLForConditionalGeneration"],
        "model_type": "mgll_qwen_vl",
        "text_config": text,
        "vision_config": tower,
        "feature_width": vision["width"],
        "query_grid": 16,
        "resampler_heads": vision["output_dim"] // 128,
        "image_token_id": vision["image_start_id"] + 2,
        "tie_word_embeddings": False,
        "dtype": old.get("torch_dtype", "bfloat16"),
    }


def _processor_config(config: Json) -> Json:
    published = Preprocessing(size=config["vision_config"]["image_size"], resize="squash")
    return {
        "processor_class": "PlaceholderProcessor",
        "marker": MARKER,
        "before": "<img>",
        "token": "<imgpad>",
        "after": "</img>",
        "count": config["query_grid"] ** 2,
        "image_processor": image_processor_settings(published),
    }


def _native(tensors: Mapping[str, Part], directory: Path) -> dict[str, Part]:
    """The tensors by the names of our model; the joint map to queries, keys and values becomes three ranges of its rows."""
    found: dict[str, Part] = {}
    for name, new in renamed(tensors, NAMES, _RECOMPUTED, directory).items():
        part = tensors[name]
        if ".qkv." not in new:
            found[new] = part
            continue
        third = part.shape[0] // 3
        ends = (0, third, 2 * third, part.shape[0])  # rows that do not divide by 3 are seen in the last one's shape
        for i, letter in enumerate("qkv"):
            found[new.replace("qkv", f"{letter}_proj")] = rows(part, ends[i], ends[i + 1])  # type: ignore[arg-type]
    return found


def _check(tensors: Mapping[str, Any], config: Json, directory: Path) -> None:
    """Compare names and shapes with an empty model, so that a mistake is found before gigabytes are written."""
    import torch

    from mllm_adapters.hosts.qwen_vl.model import QwenVLConfig, QwenVLForConditionalGeneration

    with torch.device("meta"):
        expected = QwenVLForConditionalGeneration(QwenVLConfig(**config)).state_dict()
    problems = misfits(tensors, expected, "config.json says")
    if problems:
        raise FormatError(directory, None, f"not a whole Qwen-VL: {'; '.join(problems[:6])}")
