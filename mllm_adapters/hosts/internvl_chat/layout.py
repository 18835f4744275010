"""InternVL 2, 2.5 and 3 as their makers publish them (`internvl_chat`, remote code), under the names of transformers' InternVL.

Tensors are renamed or cut as bytes, never computed: the tower's joint map becomes queries, keys and values, as does InternLM2's, in
which each key and value head follows the query heads that share it. Tokenizer, tiles and chat template are written out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import read_json
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable, renamed
from mllm_adapters.checkpoints.tensors import Joined, Part, read_checkpoint, rows
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.modules.published_tokenizer import LEFT_BEHIND, published_tokenizer
from mllm_adapters.modules.tokenizer_files import CONFIG, saved_json

MODEL_TYPE = "internvl_chat"
IMAGE, TURN_END = "<IMG_CONTEXT>", "<|im_end|>"
#: The language models that are asked in ChatML, by what transformers calls them. InternLM2 and 3 are Llamas under other names.
LANGUAGES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "internlm2": "llama", "internlm3": "llama"}
LAYER = "model.language_model.layers."
NAMES: NameTable = (
    (r"vision_model\.embeddings\.class_embedding$", "model.vision_tower.embeddings.cls_token"),
    (r"vision_model\.embeddings\.position_embedding$", "model.vision_tower.embeddings.position_embeddings"),
    (r"vision_model\.embeddings\.patch_embedding\.", "model.vision_tower.embeddings.patch_embeddings.projection."),
    (r"vision_model\.encoder\.layers\.(\d+)\.ls([12])$", r"model.vision_tower.encoder.layer.\1.lambda_\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.norm1\.", r"model.vision_tower.encoder.layer.\1.layernorm_before."),
    (r"vision_model\.encoder\.layers\.(\d+)\.norm2\.", r"model.vision_tower.encoder.layer.\1.layernorm_after."),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"model.vision_tower.encoder.layer.\1.mlp."),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.attn\.proj\.",
        r"model.vision_tower.encoder.layer.\1.attention.projection_layer.",
    ),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.attn\.(qkv|q_norm|k_norm)\.",
        r"model.vision_tower.encoder.layer.\1.attention.\2.",
    ),
    (r"mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"language_model\.model\.tok_embeddings\.", "model.language_model.embed_tokens."),
    (r"language_model\.model\.layers\.(\d+)\.attention_norm\.", LAYER + r"\1.input_layernorm."),
    (r"language_model\.model\.layers\.(\d+)\.ffn_norm\.", LAYER + r"\1.post_attention_layernorm."),
    (r"language_model\.model\.layers\.(\d+)\.attention\.wqkv\.", LAYER + r"\1.self_attn.wqkv."),
    (r"language_model\.model\.layers\.(\d+)\.attention\.wo\.", LAYER + r"\1.self_attn.o_proj."),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w1\.", LAYER + r"\1.mlp.gate_proj."),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w2\.", LAYER + r"\1.mlp.down_proj."),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w3\.", LAYER + r"\1.mlp.up_proj."),
    (r"language_model\.model\.", "model.language_model."),
    (r"language_model\.(?:output|lm_head)\.", "lm_head."),
)
#: What the tower's configuration calls by the same name in both layouts.
_SAME = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps"),
    *("norm_type", "num_channels", "initializer_range", "image_size", "patch_size", "attention_dropout"),
)
_RECOMPUTED = r".*rotary_emb\.inv_freq"
#: What says how a conversation is written; `IMAGE` is what the processor looks for.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "\n{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def read_published(directory: Path) -> Source:
    """Read a checkpoint of the makers' layout under the names of `InternVLForConditionalGeneration`.

    Raises:
        FormatError: if it is damaged, incomplete, or its tokenizer does not fit its embeddings.
        HostError: if its language model or its way to cut images is not built here.
    """
    old = read_json(directory / "config.json")
    _check_kind(old)
    config = _config(old)
    tensors = _native(read_checkpoint(directory), config["text_config"], directory)
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    tokenizer = published_tokenizer(
        directory,
        eos=TURN_END,
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token=IMAGE,
        video_token="<quad>",  # the class insists on one that is never asked; a new one would have no row among the embeddings
    )
    embeddings = tensors.get("model.language_model.embed_tokens.weight")
    if embeddings is None or len(tokenizer) > embeddings.shape[0]:
        found = "no embeddings" if embeddings is None else f"{embeddings.shape[0]} embeddings"
        raise FormatError(directory, None, f"{len(tokenizer)} tokens and {found}: tokenizer and weights do not fit")
    config["image_token_id"] = tokenizer.convert_tokens_to_ids(IMAGE)
    config["text_config"] |= {"vocab_size": embeddings.shape[0], "eos_token_id": tokenizer.eos_token_id}
    files = {
        **_processor_files(old, config, tokenizer),
        "config.json": config,
        "generation_config.json": {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id},
    }
    return Source(directory, files, tensors, leave=(*LEFT_BEHIND, "chat_template*", "preprocessor_config.json"))


def _check_kind(old: Json) -> None:
    language = old["llm_config"].get("model_type") or _of_class(old["llm_config"])
    if language not in LANGUAGES:
        raise HostError(
            f"its language model is {language!r}; built here are those of {', '.join(LANGUAGES)}, which are asked in ChatML:"
            " take OpenGVLab/InternVL2_5-8B, OpenGVLab/InternVL3-8B or OpenGVLab/InternVL3-8B-hf"
        )
    vision = old["vision_config"]
    if old.get("ps_version", "v2") != "v2" or old.get("pad2square") or not old.get("use_thumbnail", True):
        raise HostError(
            "it cuts or shuffles images in a way of before InternVL 2 (ps_version, pad2square, use_thumbnail), which transformers'"
            " InternVL does not: take OpenGVLab/InternVL2-8B or a later one"
        )
    size = old.get("force_image_size") or vision["image_size"]
    if size != vision["image_size"]:
        raise HostError(
            f"config.json sets force_image_size {size} beside a tower of {vision['image_size']} px, which is resized while it"
            " runs: not built here, take a checkpoint in which both are 448"
        )


def _of_class(language: Json) -> str:
    """What the first ones say of the language model is only its class."""
    return str((language.get("architectures") or ["none"])[0]).removesuffix("ForCausalLM").lower()


def _config(old: Json) -> Json:
    """The config.json of transformers' InternVL."""
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import AutoConfig

    language, vision = old["llm_config"], old["vision_config"]
    kind = LANGUAGES[language.get("model_type") or _of_class(language)]
    known = {*AutoConfig.for_model(kind).to_dict(), "rope_theta", "rope_scaling"} - {
        "architectures",
        "dtype",
        "use_cache",
    }
    text = {key: value for key, value in language.items() if key in known} | {"model_type": kind}
    text.pop("tie_word_embeddings", None)  # said once, above both
    if kind == "llama":
        text["attention_bias"] = bool(
            language.get("attention_bias") or language.get("qkv_bias") or language.get("bias")
        )
    tower = {key: vision[key] for key in _SAME if key in vision} | {
        "model_type": "internvl_vision",
        "attention_bias": vision.get("qkv_bias", True),
        "use_qk_norm": vision.get("qk_normalization", False),
        "hidden_dropout_prob": vision.get("dropout", 0.0),
    }
    ratio = old.get("downsample_ratio", 0.5)
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "dtype": old.get("torch_dtype") or "bfloat16",
        "text_config": text,
        "vision_config": tower,
        "downsample_ratio": ratio,
        "image_seq_length": int(vision["image_size"] // vision["patch_size"] * ratio) ** 2,
        "vision_feature_layer": old.get("select_layer", -1),
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
    }


def _native(tensors: Mapping[str, Part], text: Json, directory: Path) -> dict[str, Part]:
    """The tensors by the names of transformers' class."""
    found: dict[str, Part] = {}
    for name, new in renamed(tensors, NAMES, _RECOMPUTED, directory).items():
        part: Any = tensors[name]
        if ".attention.qkv." in new:
            third = part.shape[0] // 3
            ends = (0, third, 2 * third, part.shape[0])  # rows that do not divide by 3 are seen in the last one's shape
            found |= {new.replace("qkv", f"{x}_proj"): rows(part, ends[i], ends[i + 1]) for i, x in enumerate("qkv")}
        elif ".wqkv." in new:
            found |= {new.replace("wqkv", f"{x}_proj"): cut for x, cut in _grouped(part, text, directory).items()}
        else:
            found[new] = part
    return found


def _grouped(part: Any, text: Json, directory: Path) -> dict[str, Part]:
    """Cut InternLM2's joint map: for each key head the rows of its query heads, then those of the key and of the value."""
    heads = text["num_attention_heads"]
    keys = text.get("num_key_value_heads") or heads
    width = text.get("head_dim") or text["hidden_size"] // heads
    shared = heads // keys
    if part.shape[0] != keys * (shared + 2) * width:
        raise FormatError(
            directory, None, f"its attention has {part.shape[0]} rows, config.json says {keys * (shared + 2) * width}"
        )
    ranges: dict[str, list[Any]] = {"q": [], "k": [], "v": []}
    for key in range(keys):
        first = key * (shared + 2) * width
        ends = (first, first + shared * width, first + (shared + 1) * width, first + (shared + 2) * width)
        for i, letter in enumerate("qkv"):
            ranges[letter].append(rows(part, ends[i], ends[i + 1]))
    return {letter: Joined(tuple(cut)) for letter, cut in ranges.items()}


def _processor_files(old: Json, config: Json, tokenizer: Any) -> dict[str, Json]:
    """Tokenizer, tiles and chat template as transformers' processor writes them."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    size = dict.fromkeys(("height", "width"), config["vision_config"]["image_size"])
    images = GotOcr2ImageProcessor(
        size=size,
        crop_to_patches=bool(old.get("dynamic_image_size", True)),
        min_patches=old.get("min_dynamic_patch", 1),
        max_patches=old.get("max_dynamic_patch", 12),
        image_mean=list(mean),
        image_std=list(std),
    )
    videos = InternVLVideoProcessor(size=size, image_mean=list(mean), image_std=list(std))
    files = saved_json(InternVLProcessor(images, tokenizer, videos, config["image_seq_length"]))
    # the general class does what tokenizer.json says; the family's own would rebuild it by rules of its own
    files[CONFIG]["tokenizer_class"] = "PreTrainedTokenizerFast"
    return files | {"chat_template.json": {"chat_template": CHAT}}
