"""Janus-Pro in its makers' own layout: the same logits and pixels as transformers' form, through all commands."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from five_commands import five_commands
from tiny_tokenizer import byte_tokenizer
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration

from mgll.images.preprocessing import Preprocessing, open_image, preprocess
from mllm_adapters import convert
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("janus-pro")
SIZE, PATCH, WIDTH, HIDDEN = 32, 8, 64, 32
SPECIAL = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}


def config_of(tokens: int) -> dict:
    """config.json of deepseek-ai/Janus-Pro-7B, but for the sizes."""
    aligner = {"cls": "MlpProjector", "model_type": "aligner"}
    language = {"hidden_size": HIDDEN, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 2}
    vision = {
        "image_size": SIZE,
        "model_name": "siglip_large_patch16_384",
        "select_feature": "same",
        "select_layer": -1,
    }
    projector = {"depth": 2, "n_embed": HIDDEN, "projector_type": "mlp_gelu"}
    return {
        "aligner_config": aligner | {"params": projector | {"input_dim": 1024}},
        "architectures": ["MultiModalityCausalLM"],
        "gen_aligner_config": aligner | {"model_type": "gen_aligner", "params": projector | {"input_dim": 8}},
        "gen_head_config": {
            "cls": "vision_head",
            "model_type": "gen_head",
            "params": {"image_token_embed": HIDDEN, "image_token_size": 8, "n_embed": HIDDEN},
        },
        "gen_vision_config": {
            "cls": "VQ-16",
            "model_type": "gen_vision",
            "params": {"image_token_size": 8, "n_embed": 8},
        },
        "language_config": language
        | {
            "max_position_embeddings": 16384,
            "model_type": "llama",
            "num_hidden_layers": 2,
            "torch_dtype": "float32",
            "vocab_size": tokens,
        },
        "model_type": "multi_modality",
        "torch_dtype": "float32",
        "transformers_version": "4.33.1",
        "vision_config": {"cls": "CLIPVisionTower", "model_type": "vision", "params": vision},
    }


def published_names(hf: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' tensors under the published names, with the tower's joint map and its unused pooling."""
    renames = {
        r"^model\.vision_model\.embeddings\.position_embedding\.weight": "vision_model.vision_tower.pos_embed",
        r"^model\.vision_model\.embeddings\.patch_embedding": "vision_model.vision_tower.patch_embed.proj",
        r"^model\.vision_model\.post_layernorm": "vision_model.vision_tower.norm",
        r"^model\.vision_model\.encoder\.layers": "vision_model.vision_tower.blocks",
        r"\.layer_norm": ".norm",
        r"\.self_attn\.projection_layer": ".attn.proj",
        r"^model\.vqmodel\.encoder\.down\.": "gen_vision_model.encoder.conv_blocks.",
        r"^model\.vqmodel\.decoder\.up\.": "gen_vision_model.decoder.conv_blocks.",
        r"^model\.vqmodel\.": "gen_vision_model.",
        r"(gen_vision_model\..*conv_blocks\.\d+)\.block\.": r"\1.res.",
        r"mid\.block_1": "mid.0",
        r"mid\.attn_1": "mid.1",
        r"mid\.block_2": "mid.2",
        r"^model\.generation_aligner": "gen_aligner",
        r"^model\.aligner": "aligner",
        r"aligner\.fc1": "aligner.layers.0",
        r"aligner\.hidden_layers\.0": "aligner.layers.2",
        r"^model\.generation_head\.proj_out": "gen_head.output_mlp_projector",
        r"^model\.generation_head": "gen_head",
        r"^model\.generation_embeddings": "gen_embed",
        r"^model\.language_model": "language_model.model",
        r"^lm_head": "language_model.lm_head",
    }
    found: dict[str, Tensor] = {}
    for name, tensor in hf.items():
        new = name
        for old, published in renames.items():
            new = re.sub(old, published, new)
        if new.startswith("vision_model.") and ".self_attn.q_proj" in new:
            joint = torch.cat([hf[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
            found[new.replace("self_attn.q_proj", "attn.qkv")] = joint
        elif not (new.startswith("vision_model.") and ".self_attn." in new):
            found[new] = tensor[None] if new.endswith("pos_embed") else tensor
    pool = "vision_model.vision_tower.attn_pool."
    found |= {f"{pool}latent": torch.ones(1, 1, WIDTH), f"{pool}kv.weight": torch.ones(2 * WIDTH, WIDTH)}
    return found | {"gen_vision_model.quantize.codebook_used": torch.zeros(65536)}


def save_published(directory: Path) -> JanusForConditionalGeneration:
    """Write the folder with pickled shards, as published; returns transformers' form of the same weights."""
    tokenizer = byte_tokenizer(**SPECIAL)
    tokenizer.save_pretrained(directory)
    settings = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": None}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 16384}))
    (directory / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>"}))
    (directory / "config.json").write_text(json.dumps(config_of(len(tokenizer))))
    images = {"background_color": [127] * 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_size": SIZE}
    images |= {"image_processor_type": "VLMImageProcessor", "min_size": 2, "processor_class": "VLChatProcessor"}
    (directory / "preprocessor_config.json").write_text(json.dumps(images))
    processor = {"image_tag": "<image_placeholder>", "num_image_tokens": 576, "processor_class": "VLChatProcessor"}
    (directory / "processor_config.json").write_text(json.dumps(processor))
    torch.manual_seed(0)
    vision = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 1, "mlp_ratio": 2.0, "depth": 2}
    text = {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2}
    vq = {"embed_dim": 8, "num_embeddings": 8, "latent_channels": 32, "base_channels": 32, "num_res_blocks": 1}
    model = JanusForConditionalGeneration(
        JanusConfig(
            vision_config=vision | {"image_size": SIZE, "patch_size": PATCH, "projection_dim": HIDDEN},
            text_config=text | {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)},
            vq_config=vq | {"channel_multiplier": [1, 2], "projection_dim": HIDDEN, "image_token_embed_dim": HIDDEN},
            image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
            tie_word_embeddings=False,
        )
    ).eval()
    with torch.no_grad():  # biases and norms start at 0 and 1; make every tensor telling
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tensors = published_names(model.state_dict())
    names, weight_map = list(tensors), {}
    for i in range(2):
        shard = f"pytorch_model-{i + 1:05d}-of-00002.bin"
        chosen = names[i * len(names) // 2 : (i + 1) * len(names) // 2]
        torch.save({name: tensors[name].clone() for name in chosen}, directory / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return model


@pytest.mark.layout("janus-pro", "`multi_modality`")
def test_the_makers_layout_through_all_commands(
    make_tower: Callable[..., Path], cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    model = save_published(tmp_path / "published")
    encoder = make_tower(size=SIZE, patch_size=PATCH, hidden_size=WIDTH)
    done = five_commands("janus-pro", tmp_path / "published", encoder, cases, photographs[0], tmp_path)
    loaded = load(done.converted)
    image = open_image(photographs[0])
    inputs = loaded.processor(images=[image], text=[HOST.prompt("What is it?")], return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5)
    found, expected = loaded.model.state_dict(), model.state_dict()  # image generation, too
    assert [name for name in expected | found if not torch.equal(found[name], expected[name])] == []
    square = image.crop((0, 0, 30, 30))
    pixels = loaded.processor(images=[square], text=["<image_placeholder>"], return_tensors="pt")["pixel_values"][0]
    half = Preprocessing(size=SIZE, resize="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(pixels, preprocess(square, half), rtol=0, atol=0.02)


def test_another_tower_is_refused_with_a_checkpoint_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_published(tmp_path / "published")
    content = json.loads((tmp_path / "published" / "config.json").read_text())
    content["vision_config"]["params"]["model_name"] = "siglip_so400m_patch14_384"
    (tmp_path / "published" / "config.json").write_text(json.dumps(content))
    command = ["--model", "janus-pro", "--checkpoint", str(tmp_path / "published"), "--out", str(tmp_path / "host")]
    assert convert.main(command) == 1
    said = capsys.readouterr().err
    assert "'siglip_so400m_patch14_384'" in said
    assert "take deepseek-ai/Janus-Pro-7B" in said
    assert said.count("\n") == 1
