"""Janus-Pro as its makers publish it (`multi_modality`, code of their own), read under the names of transformers' Janus.

That config.json names its parts by class and says little of their sizes, which are read off the tensors. The tower is timm's
SigLIP: its joint map becomes queries, keys and values, and its pooling, which Janus never uses, is left out. Image generation
comes along.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable, renamed
from mllm_adapters.checkpoints.tensors import Held, Part, Stored, read_checkpoint, rows
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.modules.published_tokenizer import LEFT_BEHIND, published_tokenizer
from mllm_adapters.modules.tokenizer_files import CONFIG, saved_json

MODEL_TYPE = "multi_modality"
IMAGE = "<image_placeholder>"
TOWER, VQ = "model.vision_model.", "model.vqmodel."
POSITIONS = f"{TOWER}embeddings.position_embedding.weight"
#: SigLIP's heads are 64 wide.
HEAD = 64
NAMES: NameTable = (
    (r"vision_model\.vision_tower\.pos_embed$", POSITIONS),
    (r"vision_model\.vision_tower\.patch_embed\.proj\.", f"{TOWER}embeddings.patch_embedding."),
    (r"vision_model\.vision_tower\.norm\.", f"{TOWER}post_layernorm."),
    (r"vision_model\.vision_tower\.blocks\.(\d+)\.norm([12])\.", TOWER + r"encoder.layers.\1.layer_norm\2."),
    (r"vision_model\.vision_tower\.blocks\.(\d+)\.mlp\.", TOWER + r"encoder.layers.\1.mlp."),
    (
        r"vision_model\.vision_tower\.blocks\.(\d+)\.attn\.proj\.",
        TOWER + r"encoder.layers.\1.self_attn.projection_layer.",
    ),
    (r"vision_model\.vision_tower\.blocks\.(\d+)\.attn\.qkv\.", TOWER + r"encoder.layers.\1.self_attn.qkv."),
    (r"gen_vision_model\.encoder\.conv_blocks\.(\d+)\.res\.", VQ + r"encoder.down.\1.block."),
    (r"gen_vision_model\.encoder\.conv_blocks\.", f"{VQ}encoder.down."),
    (r"gen_vision_model\.decoder\.conv_blocks\.(\d+)\.res\.", VQ + r"decoder.up.\1.block."),
    (r"gen_vision_model\.decoder\.conv_blocks\.", f"{VQ}decoder.up."),
    (r"gen_vision_model\.(encoder|decoder)\.mid\.0\.", VQ + r"\1.mid.block_1."),
    (r"gen_vision_model\.(encoder|decoder)\.mid\.1\.", VQ + r"\1.mid.attn_1."),
    (r"gen_vision_model\.(encoder|decoder)\.mid\.2\.", VQ + r"\1.mid.block_2."),
    (r"gen_vision_model\.", VQ),
    (r"aligner\.layers\.", "model.aligner.layers."),
    (r"gen_aligner\.layers\.", "model.generation_aligner.layers."),
    (r"gen_head\.output_mlp_projector\.", "model.generation_head.proj_out."),
    (r"gen_head\.vision_head\.", "model.generation_head.vision_head."),
    (r"gen_embed\.", "model.generation_embeddings."),
    (r"language_model\.model\.", "model.language_model."),
    (r"language_model\.lm_head\.", "lm_head."),
)
_LEFT_OUT = (
    r".*rotary_emb\.inv_freq|vision_model\.vision_tower\.attn_pool\..*|gen_vision_model\.quantize\.codebook_used"
)


def read_published(directory: Path) -> Source:
    """Read a checkpoint of the makers' layout under the names of `JanusForConditionalGeneration`.

    Raises:
        FormatError: if it is damaged, incomplete, or its tokenizer does not fit its embeddings.
        HostError: if it is of a kind that is not built here.
    """
    old = read_json(directory / "config.json")
    _check_kind(old)
    tensors = _native(read_checkpoint(directory), directory)
    config = _config(old, tensors, directory)
    tokenizer = published_tokenizer(
        directory, image_token=IMAGE, boi_token="<begin_of_image>", eoi_token="<end_of_image>"
    )
    if len(tokenizer) > (found := config["text_config"]["vocab_size"]):
        raise FormatError(
            directory, None, f"{len(tokenizer)} tokens and {found} embeddings: they do not fit each other"
        )
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config["image_token_id"] = tokenizer.convert_tokens_to_ids(IMAGE)
    config["text_config"] |= ends
    boi = tokenizer.convert_tokens_to_ids("<begin_of_image>")
    files = {
        **_processor_files(directory, config, tokenizer),
        "config.json": config,
        "generation_config.json": ends | {"generation_kwargs": {"boi_token_id": boi}},
    }
    return Source(directory, files, tensors, leave=(*LEFT_BEHIND, "preprocessor_config.json"))


def _check_kind(old: Json) -> None:
    tower = old.get("vision_config", {}).get("params", {})
    name, layer, feature = (tower.get(key) for key in ("model_name", "select_layer", "select_feature"))
    if not str(name).startswith("siglip_large_patch16") or layer not in (None, -1) or feature not in (None, "same"):
        raise HostError(
            f"its tower is {name!r}, read at layer {layer}; transformers' Janus is built on SigLIP-L/16 with its last layer: take"
            " deepseek-ai/Janus-Pro-7B, deepseek-ai/Janus-Pro-1B or deepseek-community/Janus-Pro-7B"
        )


def _native(tensors: Mapping[str, Part], directory: Path) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for name, new in renamed(tensors, NAMES, _LEFT_OUT, directory).items():
        part: Any = tensors[name]
        if ".self_attn.qkv." in new:
            third = part.shape[0] // 3
            ends = (0, third, 2 * third, part.shape[0])  # rows that do not divide by 3 are seen in the last one's shape
            found |= {new.replace("qkv", f"{x}_proj"): rows(part, ends[i], ends[i + 1]) for i, x in enumerate("qkv")}
        elif new == POSITIONS:
            found[new] = _without_batch(part)
        else:
            found[_aligner(new)] = part
    return found


def _without_batch(part: Stored | Held) -> Stored | Held:
    """The table of positions without its first dimension, which is 1; the bytes are the same."""
    if len(part.shape) != 3:
        return part
    return Held(part.tensor[0], part.shard) if isinstance(part, Held) else replace(part, shape=part.shape[1:])


def _aligner(name: str) -> str:
    """The linear layers of an aligner, which the published one numbers with the activations between them."""
    match = re.fullmatch(r"(model\.(?:generation_)?aligner)\.layers\.(\d+)\.(\w+)", name)
    if not match:
        return name
    number = int(match[2]) // 2
    return f"{match[1]}.{'fc1' if number == 0 else f'hidden_layers.{number - 1}'}.{match[3]}"


def _config(old: Json, tensors: Mapping[str, Part], directory: Path) -> Json:
    """The config.json of transformers' Janus."""
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import LlamaConfig

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise FormatError(directory, None, f"{name} is in no shard: not a whole Janus-Pro")
        return tensors[name].shape

    def count(pattern: str) -> int:
        return len({match[1] for name in tensors if (match := re.match(pattern, name))})

    places, width = shape(POSITIONS)
    patch = shape(f"{TOWER}embeddings.patch_embedding.weight")[-1]
    vocabulary, hidden = shape("model.language_model.embed_tokens.weight")
    known = {*LlamaConfig().to_dict(), "rope_theta", "rope_scaling"} - {"architectures", "dtype", "use_cache"}
    text = {key: value for key, value in old["language_config"].items() if key in known}
    levels = count(rf"{re.escape(VQ)}encoder\.down\.(\d+)\.")
    first = shape(f"{VQ}encoder.conv_in.weight")[0]
    ends = [shape(f"{VQ}encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)]
    latent, embedded = shape(f"{VQ}post_quant_conv.weight")[:2]
    return {
        "architectures": ["JanusForConditionalGeneration"],
        "model_type": "janus",
        "dtype": old.get("torch_dtype") or "bfloat16",
        "tie_word_embeddings": False,
        "text_config": text | {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden},
        "vision_config": {
            "model_type": "janus_vision_model",
            "hidden_size": width,
            "num_hidden_layers": count(rf"{re.escape(TOWER)}encoder\.layers\.(\d+)\."),
            "num_attention_heads": max(1, width // HEAD),
            "mlp_ratio": shape(f"{TOWER}encoder.layers.0.mlp.fc1.weight")[0] / width,
            "patch_size": patch,
            "image_size": round(places**0.5) * patch,
            "projection_dim": shape("model.aligner.fc1.weight")[0],
            "depth": 1 + count(r"model\.aligner\.hidden_layers\.(\d+)\."),
            "num_image_tokens": places,
        },
        "vq_config": {
            "model_type": "janus_vqgan",
            "embed_dim": embedded,
            "num_embeddings": shape(f"{VQ}quantize.embedding.weight")[0],
            "latent_channels": latent,
            "base_channels": first,
            "channel_multiplier": [end // first for end in ends],
            "num_res_blocks": count(rf"{re.escape(VQ)}encoder\.down\.0\.block\.(\d+)\."),
            "num_hidden_layers": 1 + count(r"model\.generation_aligner\.hidden_layers\.(\d+)\."),
            "projection_dim": shape("model.generation_aligner.fc1.weight")[0],
            "image_token_embed_dim": shape("model.generation_head.proj_out.weight")[1],
        },
    }


def _processor_files(directory: Path, config: Json, tokenizer: Any) -> dict[str, Json]:
    """Tokenizer and image processor as transformers' processor writes them, with the published numbers."""
    from transformers import JanusImageProcessor, JanusProcessor

    path = directory / "preprocessor_config.json"
    old = read_json(path) if path.is_file() else {}
    same = ("do_normalize", "image_mean", "image_std", "min_size", "rescale_factor")
    size = config["vision_config"]["image_size"]
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | {key: old[key] for key in same if key in old}
    images = JanusImageProcessor(size={"height": size, "width": size}, **settings)
    count = config["vision_config"]["num_image_tokens"]
    files = saved_json(JanusProcessor(images, tokenizer, num_image_tokens=count))
    # the general class does what tokenizer.json says; the one that the makers name would rebuild it by rules of its own
    files[CONFIG]["tokenizer_class"] = "PreTrainedTokenizerFast"
    return files
