"""Tiny instances of the eight hosts, around the demo's decoder: every part of a family's own class, in a size for two cores.

All of them share the one language model that has learnt to read questions from text (`mllm_adapters.demo.decoder`): as LLaMA,
Mistral or Qwen2, which compute the same where biases are 0. InstructBLIP's, whose image stands in front of all text, differs from
it by a LoRA of rank 8 (`mllm_adapters.demo.image_first`). Towers and connectors are random.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BlipImageProcessor,
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.janus.image_processing_janus import JanusImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from mgll.files import atomic_path
from mgll.images.preprocessing import Preprocessing
from mllm_adapters.demo.conversation import conversation_tokenizer
from mllm_adapters.demo.decoder import IMAGE, SPECIAL, shipped_decoder, shipped_sha256
from mllm_adapters.demo.image_first import FAMILY as IMAGE_FIRST
from mllm_adapters.demo.image_first import image_first_decoder, image_first_sha256
from mllm_adapters.demo.joining import new_connector
from mllm_adapters.hosts.med_flamingo.model import MedFlamingoConfig, MedFlamingoForConditionalGeneration
from mllm_adapters.hosts.mini_gemini.model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mllm_adapters.hosts.qwen_vl.model import QwenVLConfig, QwenVLForConditionalGeneration
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.placeholder_processor import PlaceholderProcessor

SIZE, PATCH = 96, 16
GRID = SIZE // PATCH
WIDTH, DEPTH, HEADS = 64, 2, 2  # of the hosts' own towers
#: The image's token has this id in every family, whatever it is called there.
IMAGE_ID = SPECIAL.index(IMAGE)
Parts = tuple[Any, Any]


def build_tiny_host(name: str, out: str | os.PathLike[str]) -> Path:
    """Write a tiny checkpoint of a family; it has the same bytes every time.

    Args:
        name: one of `TINY_HOSTS`; its place there is the seed of tower and connector, because with equal ones LLaVA and LLaVA-Med
            would be the same model.
        out: directory to write; an existing one is replaced.

    Returns:
        `out`.

    Raises:
        ValueError: if there is no tiny instance of this family.
    """
    if name not in TINY_HOSTS:
        raise ValueError(f"there is no tiny {name!r}; there are {', '.join(TINY_HOSTS)}")
    decoder = image_first_decoder() if name == IMAGE_FIRST else shipped_decoder()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(list(TINY_HOSTS).index(name))
        model, processor = TINY_HOSTS[name](decoder)
        for connector in get_host(name).connector:
            for path, module in model.named_modules():
                if path == connector or path.endswith(f".{connector}"):
                    new_connector(module)
    _take_words(model, decoder)
    with atomic_path(out) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    return Path(out)


def tiny_sha256() -> str:
    """The hashes of the weights that tiny hosts are made of and that ship with the package."""
    return f"{shipped_sha256()} {image_first_sha256()}"


def _take_words(model: Any, decoder: LlamaForCausalLM) -> None:
    """Put the decoder's weights into a model's language model, in place; biases that a LLaMA does not have become 0."""
    language: Any = getattr(model, "language_model", None) or model.model.language_model
    inner: nn.Module = getattr(language, "model", language)
    tensors = decoder.model.state_dict()
    words = tensors.pop("embed_tokens.weight")
    own = dict(inner.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        for name, parameter in own.items():
            if name.endswith("_proj.bias"):
                parameter.zero_()
        # tokens that the decoder does not know say nothing, and are as unlikely as its unknown word
        table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        table.zero_()
        table[: len(words)] = words
        head[:] = decoder.lm_head.weight[SPECIAL.index("<unk>")]
        head[: len(words)] = decoder.lm_head.weight


def _text(decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, kind: str = "llama") -> dict[str, Any]:
    """Configuration of the decoder as a LLaMA, Mistral or Qwen2 with the words of this tokenizer."""
    same = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    same += ["max_position_embeddings", "rms_norm_eps", "rope_parameters", "hidden_act", "tie_word_embeddings"]
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    found = {name: getattr(decoder.config, name) for name in same} | ids
    found |= {"model_type": kind, "vocab_size": len(tokenizer)}
    return found | ({"head_dim": decoder.config.head_dim, "sliding_window": None} if kind == "mistral" else {})


def _clip(size: int = SIZE, patch: int = PATCH) -> dict[str, Any]:
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        image_size=size,
        patch_size=patch,
    ).to_dict()


def _squares() -> LlavaImageProcessor:
    return LlavaImageProcessor(**image_processor_settings(Preprocessing(size=SIZE)))


def _llava_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=_squares(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _llava_parts(config_class: Any, decoder: LlamaForCausalLM, name: str, kind: str, **more: Any) -> tuple[Any, Any]:
    tokenizer = conversation_tokenizer(get_host(name), IMAGE, image_token=IMAGE)
    config = config_class(
        vision_config=more.pop("vision", None) or _clip(),
        text_config=_text(decoder, tokenizer, kind),
        image_token_index=IMAGE_ID,
        image_seq_length=GRID**2,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        **more,
    )
    return config, _llava_processor(tokenizer)


def _llava(decoder: LlamaForCausalLM) -> Parts:
    config, processor = _llava_parts(LlavaConfig, decoder, "llava", "llama")
    return LlavaForConditionalGeneration(config), processor


def _llava_med(decoder: LlamaForCausalLM) -> Parts:
    config, processor = _llava_parts(LlavaConfig, decoder, "llava-med", "mistral")
    return LlavaForConditionalGeneration(config), processor


def _mini_gemini(decoder: LlamaForCausalLM) -> Parts:
    low = {"vision": _clip(SIZE // 2, PATCH // 2), "low_image_size": SIZE // 2}
    small = {"convnext_dims": [8, 16, 24, 32], "convnext_depths": [1, 1, 2, 1]}
    config, processor = _llava_parts(MiniGeminiConfig, decoder, "mini-gemini", "llama", **low, **small)
    return MiniGeminiForConditionalGeneration(config), processor


def _internvl(decoder: LlamaForCausalLM) -> Parts:
    image, start, end = "<IMG_CONTEXT>", "<img>", "</img>"
    named = {"context_image_token": image, "start_image_token": start, "end_image_token": end, "video_token": "<video>"}
    tokenizer = conversation_tokenizer(get_host("internvl"), image, **named)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "image_size": [SIZE] * 2, "patch_size": [PATCH] * 2}
    count = (GRID // 2) ** 2
    config = InternVLConfig(
        vision_config=sizes | {"num_hidden_layers": DEPTH, "num_attention_heads": HEADS},
        text_config=_text(decoder, tokenizer, "qwen2"),
        image_token_id=IMAGE_ID,
        image_seq_length=count,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessor(size={"height": SIZE, "width": SIZE}, crop_to_patches=True, max_patches=1)
    videos = InternVLVideoProcessor()  # never used, but the processor's class insists
    return InternVLForConditionalGeneration(config), InternVLProcessor(images, tokenizer, videos, count)


def _janus_pro(decoder: LlamaForCausalLM) -> Parts:
    image = "<image_placeholder>"
    named = {"image_token": image, "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = conversation_tokenizer(get_host("janus-pro"), image, **named)
    vision = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "mlp_ratio": 2.0}
    vision |= {"image_size": SIZE, "patch_size": PATCH, "projection_dim": decoder.config.hidden_size, "depth": 2}
    config = JanusConfig(
        vision_config=vision,
        text_config=_text(decoder, tokenizer),
        vq_config={  # draws images, which nobody asks for here: the smallest that the class builds
            "embed_dim": 8,
            "num_embeddings": 8,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "projection_dim": decoder.config.hidden_size,
            "image_token_embed_dim": decoder.config.hidden_size,
        },
        image_token_id=IMAGE_ID,
        tie_word_embeddings=False,
    )
    images = JanusImageProcessor(size={"height": SIZE, "width": SIZE}, min_size=2)
    return JanusForConditionalGeneration(config), JanusProcessor(images, tokenizer, num_image_tokens=GRID**2)


def _instructblip(decoder: LlamaForCausalLM) -> Parts:
    tokenizer = conversation_tokenizer(get_host("instructblip"), IMAGE)
    asked = conversation_tokenizer(get_host("instructblip"), IMAGE)  # the Q-Former reads the same words
    queries = 4
    vision = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": DEPTH}
    qformer = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "cross_attention_frequency": 1,
    }
    config = InstructBlipConfig(
        vision_config=vision | {"image_size": SIZE, "patch_size": PATCH, "num_attention_heads": HEADS},
        qformer_config=qformer
        | {"num_attention_heads": HEADS, "vocab_size": len(asked), "encoder_hidden_size": WIDTH}
        | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        text_config=_text(decoder, tokenizer),
        num_query_tokens=queries,
        image_token_index=IMAGE_ID,
    )
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    return InstructBlipForConditionalGeneration(config), InstructBlipProcessor(images, tokenizer, asked, queries)


def _qwen_vl(decoder: LlamaForCausalLM) -> Parts:
    image, grid = "<imgpad>", 2
    tokenizer = conversation_tokenizer(get_host("qwen-vl"), image, around="</?img>")
    vision = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": DEPTH}
    config = QwenVLConfig(
        text_config=_text(decoder, tokenizer, "qwen2"),
        vision_config=vision
        | {"image_size": SIZE, "patch_size": PATCH, "num_attention_heads": HEADS, "position_grid": GRID},
        query_grid=grid,
        resampler_heads=4,
        image_token_id=IMAGE_ID,
    )
    processor = PlaceholderProcessor(_squares(), tokenizer, before="<img>", token=image, after="</img>", count=grid**2)
    return QwenVLForConditionalGeneration(config), processor


def _med_flamingo(decoder: LlamaForCausalLM) -> Parts:
    tokenizer = conversation_tokenizer(get_host("med-flamingo"), IMAGE)
    config = MedFlamingoConfig(
        vision_config=_clip(),
        text_config=_text(decoder, tokenizer),
        image_token_id=IMAGE_ID,
        # only the image's own token looks at the image, at every layer: there the decoder expects a finding, and all other words
        # pass as if there were no gated blocks
        attend="next",
        cross_attn_every_n_layers=1,
        num_latents=4,
        perceiver_depth=1,
        heads=4,
        head_dim=16,
    )
    model = MedFlamingoForConditionalGeneration(config)
    with torch.no_grad():  # a closed gate lets no gradient through to the perceiver
        for name, parameter in model.named_parameters():
            if name.endswith("attn_gate"):
                parameter.fill_(1.0)
    return model, PlaceholderProcessor(_squares(), tokenizer)


#: The paper's eight hosts.
TINY_HOSTS: dict[str, Callable[[LlamaForCausalLM], Parts]] = {
    "llava": _llava,
    "llava-med": _llava_med,
    "instructblip": _instructblip,
    "qwen-vl": _qwen_vl,
    "internvl": _internvl,
    "med-flamingo": _med_flamingo,
    "mini-gemini": _mini_gemini,
    "janus-pro": _janus_pro,
}
