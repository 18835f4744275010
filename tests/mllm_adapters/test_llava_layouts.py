"""Checkpoints of LLaVA's own repository: without a tower, with one, as an adapter, as a projector; through all commands."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from five_commands import five_commands
from peft import LoraConfig, get_peft_model
from published_llava import (
    HIDDEN,
    LAYERS,
    LOW,
    PATCH,
    TOWER_LAYERS,
    VOCABULARY,
    WIDTH,
    connector_shapes,
    language_shapes,
    linear,
    save_published,
    tower_shapes,
    value,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from benchmark.run_mcq import main as run_mcq
from mgll.images.preprocessing import open_image
from mllm_adapters import ask, convert, swap
from mllm_adapters.contract.graft_record import read_graft
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("llava")
TOWER = "model.vision_tower.vision_tower."
#: config.json of liuhaotian/llava-v1.5-7b, but for the sizes.
CONFIG = {
    "_name_or_path": "llava-v1.5-7b",
    "architectures": ["LlavaLlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "freeze_mm_vision_resampler": False,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "image_aspect_ratio": "pad",
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_length": 4096,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava_llama",
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.31.0",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": False,
    "use_cache": True,
    "use_mm_proj": True,
    "vocab_size": VOCABULARY,
}
#: config.json of the base, lmsys/vicuna-7b-v1.5, but for the sizes.
VICUNA = {key: value for key, value in CONFIG.items() if "mm_" not in key} | {
    "_name_or_path": "vicuna-7b-v1.5",
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
}


def language() -> dict[str, Tensor]:
    return {n: value(n, shape) for n, shape in (language_shapes() | {"lm_head.weight": (VOCABULARY, HIDDEN)}).items()}


def projector() -> dict[str, Tensor]:
    return {name: value(name, shape) for name, shape in connector_shapes().items()}


def tower() -> dict[str, Tensor]:
    return {name: value(name, shape) for name, shape in tower_shapes().items()}


def hf_model(tensors: dict[str, Tensor]) -> LlavaForConditionalGeneration:
    """The -hf form of published tensors: transformers' own class, filled by the names written out here."""
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": TOWER_LAYERS,
        "num_attention_heads": 1,
    }
    text = {
        key: CONFIG[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    }
    config = LlavaConfig(
        vision_config=vision | {"model_type": "clip_vision_model", "image_size": LOW, "patch_size": PATCH},
        text_config=text | {"model_type": "llama", "rms_norm_eps": 1e-5, "vocab_size": VOCABULARY + 2},
        image_token_index=VOCABULARY,
        image_seq_length=(LOW // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config).eval()
    names = {
        f"{TOWER}vision_model.": "model.vision_tower.",
        "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
        "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
        "model.": "model.language_model.",
        "": "",
    }
    found = {}
    for name, tensor in tensors.items():
        old = next(old for old in names if name.startswith(old))
        found[names[old] + name.removeprefix(old)] = tensor
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        found[name] = torch.cat((found[name], found[name].mean(0, keepdim=True).expand(2, -1)))
    model.load_state_dict(found)
    return model


@torch.inference_mode()
def assert_equal_logits(directory: Path, model: LlavaForConditionalGeneration, image: Path) -> None:
    loaded = load(directory)
    inputs = loaded.processor(images=[open_image(image)], text=[HOST.prompt("What is it?")], return_tensors="pt")
    torch.testing.assert_close(loaded.model(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tower as OpenAI published it for transformers: the whole CLIP in one pickle."""
    folder = tmp_path_factory.mktemp("openai") / "clip"
    folder.mkdir()
    content = {name.removeprefix(TOWER): tensor for name, tensor in tower().items()}
    content |= {"vision_model.embeddings.position_ids": torch.arange(17)[None], "logit_scale": torch.tensor(1.0)}
    content |= {"text_model.encoder.layers.0.layer_norm1.weight": torch.ones(4)}
    torch.save(content, folder / "pytorch_model.bin")
    vision = {"num_attention_heads": 1, "hidden_act": "quick_gelu"}
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    return folder


@pytest.fixture(scope="module")
def vicuna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmsys") / "vicuna"
    save_published(folder, language(), VICUNA)
    return folder


@pytest.fixture(scope="module")
def encoder(make_tower: Callable[..., Path]) -> Path:
    return make_tower(size=LOW, patch_size=PATCH, hidden_size=WIDTH, num_attention_heads=2)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """What LLaVA's LoRA training leaves, saved by PEFT itself, and the merged language model according to PEFT."""
    folder = tmp_path_factory.mktemp("lora") / "llava-v1.5-7b-task-lora"
    base = LlamaForCausalLM(LlamaConfig(**{key: v for key, v in VICUNA.items() if not key.startswith(("_", "arch"))}))
    base.load_state_dict(language())
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=every))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.peft_config["default"].base_model_name_or_path = "lmsys/vicuna-7b-v1.5"
    model.save_pretrained(folder)
    torch.save(
        load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin"
    )  # as the published ones are
    (folder / "adapter_model.safetensors").unlink()
    torch.save({f"base_model.model.{n}": t for n, t in projector().items()}, folder / "non_lora_trainables.bin")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"_name_or_path": "lmsys/vicuna-7b-v1.5"}))
    return folder, {n: t.detach() for n, t in model.merge_and_unload().state_dict().items()}


@pytest.mark.layout("llava", "LLaVA's own, no tower in it")
def test_the_published_form_without_a_tower(
    clip: Path, encoder: Path, cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "llava-v1.5-7b"
    save_published(source, language() | projector(), CONFIG | {"model_type": "llava", "mm_vision_tower": str(clip)})
    torch.save(projector(), source / "mm_projector.bin")  # lies beside the shards, which hold it too
    done = five_commands("llava", source, encoder, cases, photographs[0], tmp_path)
    assert_equal_logits(done.converted, hf_model(language() | projector() | tower()), photographs[0])
    assert read_graft(done.grafted).loads_in == "transformers"


@pytest.mark.layout("llava", "LLaVA's own with its tower")
def test_a_full_fine_tune_holds_its_tower(encoder: Path, cases: Path, photographs: list[Path], tmp_path: Path) -> None:
    tensors = language() | projector() | tower()
    save_published(tmp_path / "full", tensors, CONFIG | {"unfreeze_mm_vision_tower": True})
    done = five_commands("llava", tmp_path / "full", encoder, cases, photographs[0], tmp_path)
    assert_equal_logits(done.converted, hf_model(tensors), photographs[0])


@pytest.mark.layout("llava", "LLaVA's LoRA folder")
def test_a_lora_folder_and_its_base(
    adapter: tuple[Path, dict[str, Tensor]],
    vicuna: Path,
    clip: Path,
    encoder: Path,
    cases: Path,
    photographs: list[Path],
    tmp_path: Path,
) -> None:
    folder, merged = adapter
    parts = {"base": vicuna, "clip": clip}
    done = five_commands("llava", folder, encoder, cases, photographs[0], tmp_path, parts)
    assert_equal_logits(done.converted, hf_model(merged | projector() | tower()), photographs[0])
    assert not (done.converted / "adapter_config.json").exists()


@pytest.mark.layout("llava", "LLaVA's projector alone")
def test_a_projector_and_its_base(
    vicuna: Path, clip: Path, encoder: Path, cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "pretrain"
    source.mkdir()
    torch.save(projector(), source / "mm_projector.bin")
    (source / "config.json").write_text(
        json.dumps(CONFIG | {"_name_or_path": str(vicuna), "mm_vision_tower": str(clip)})
    )
    done = five_commands("llava", source, encoder, cases, photographs[0], tmp_path)
    assert_equal_logits(done.converted, hf_model(language() | projector() | tower()), photographs[0])


def test_a_graft_needs_no_tower_only_to_throw_it_away(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    shapes = linear("model.mm_projector.0", HIDDEN, 1024) | linear("model.mm_projector.2", HIDDEN, HIDDEN)
    source = tmp_path / "llava-v1.5-7b"
    save_published(source, language() | {n: value(n, shape) for n, shape in shapes.items()}, CONFIG)
    of = ["--model", "llava", "--checkpoint", str(source), "--out", str(tmp_path / "out")]
    assert swap.main([*of, "--encoder", str(encoder), "--dry-run"]) == 0
    assert swap.main([*of, "--encoder", str(encoder)]) == 0
    assert "its own tower (clip) out, which is not needed" in capsys.readouterr().out
    changes = read_graft(tmp_path / "out").tensors
    assert {c.before for c in changes if "vision_tower" in c.name} == {None}
    for command in ([*of, "--encoder", str(encoder), "--warm", str(tmp_path)], of):  # both read the tower
        assert (swap if "--warm" in command else convert).main([*command[:-1], str(tmp_path / "never")]) == 1
        said = capsys.readouterr().err
        assert "openai/clip-vit-large-patch14-336 is neither in the cache nor" in said or "no image" in said
        assert said.count("\n") == 1


def save_lora(folder: Path, clip: Path, **changes: object) -> Path:
    """A LoRA folder by hand, of one layer, with the settings of PEFT changed."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "lmsys/vicuna-7b-v1.5"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | changes))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"mm_vision_tower": str(clip)}))
    thin = {"lora_A": torch.ones(2, HIDDEN), "lora_B": torch.ones(HIDDEN, 2)}
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file({f"{layer}.{name}.weight": tensor for name, tensor in thin.items()}, folder / "adapter_model.safetensors")
    torch.save({f"base_model.model.{n}": t for n, t in projector().items()}, folder / "non_lora_trainables.bin")
    return folder


def test_the_scale_is_that_of_the_settings(vicuna: Path, clip: Path, tmp_path: Path) -> None:
    old = language()["model.layers.0.self_attn.q_proj.weight"]
    for name, settings, scale in (("plain", {}, 4 / 2), ("rs", {"use_rslora": True}, 4 / 2**0.5)):
        source = save_lora(tmp_path / name, clip, **settings)
        out = tmp_path / f"{name}-host"
        of = ["--model", "llava", "--checkpoint", str(source), "--part", f"base={vicuna}"]
        assert convert.main([*of, "--out", str(out)]) == 0
        found = load(out).model.model.language_model.layers[0].self_attn.q_proj.weight
        torch.testing.assert_close(found, old + scale * 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "sets use_dora, which is not merged here: merge it with PEFT"),
        ({"rank_pattern": {"q_proj": 4}}, "sets rank_pattern"),
        ({"peft_type": "IA3"}, "sets peft_type IA3"),
        ("no base", "lmsys/vicuna-7b-v1.5 is neither in the cache nor to be had from the hub"),
        ("no projector", "non_lora_trainables.bin: no such file"),
        ("a pickle with code", "non_lora_trainables.bin: damaged, or holds more than tensors; nothing in it was run"),
        ("another layer", "changes model.layers.7.self_attn.q_proj.weight, which the base"),
    ],
)
def test_adapters_that_are_refused(
    change: dict[str, object] | str,
    said: str,
    vicuna: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    source = save_lora(tmp_path / "lora", clip, **(change if isinstance(change, dict) else {}))
    if change == "no projector":
        (source / "non_lora_trainables.bin").unlink()
    if change == "a pickle with code":
        torch.save({"model.mm_projector.0.weight": Path("runs when it is loaded")}, source / "non_lora_trainables.bin")
    if change == "another layer":
        tensors = load_file(source / "adapter_model.safetensors")
        save_file({n.replace(".0.", ".7."): t for n, t in tensors.items()}, source / "adapter_model.safetensors")
    base = [] if change == "no base" else ["--part", f"base={vicuna}"]
    assert convert.main(["--model", "llava", "--checkpoint", str(source), *base, "--out", str(tmp_path / "never")]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_aspect_ratio": "anyres"}, "a LLaVA-NeXT, .* take --model llava-next with llava-hf/llava-v1.6-mistral"),
        ({"mm_projector_type": "linear"}, "take liuhaotian/llava-v1.5-7b or llava-hf/llava-1.5-7b-hf"),
        (
            {"mm_vision_tower": "/data/towers/clip"},
            r"names it '/data/towers/clip', .* --part clip=DIR_OR_HUB_ID \(such",
        ),
        ({"model_type": "llava_mistral"}, "LLaVA-Med v1.5; type --model llava-med"),
    ],
)
def test_other_checkpoints_are_refused_with_what_works(
    change: dict[str, str], said: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_published(tmp_path / "other", language() | projector(), CONFIG | change)
    of = ["--model", "llava", "--checkpoint", str(tmp_path / "other"), "--out", str(tmp_path / "never")]
    given = [] if "mm_vision_tower" in change else ["--part", f"clip={clip}"]
    assert convert.main([*of, *given]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1


def test_a_part_that_is_not_used_is_named(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_published(tmp_path / "whole", language() | projector() | tower(), CONFIG)
    of = ["--model", "llava", "--checkpoint", str(tmp_path / "whole"), "--part", f"clip={clip}"]
    assert convert.main([*of, "--out", str(tmp_path / "host")]) == 0
    assert "is not used" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["ask", "score"])
def test_an_adapter_that_is_not_converted_is_refused_with_the_command(
    command: str, clip: Path, cases: Path, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(save_lora(tmp_path / "lora", clip))
    ask_it = lambda: ask.main([source, "What?", "--image", str(photographs[0])])  # noqa: E731
    score = lambda: run_mcq(["--model", source, "--cases", str(cases), "--out", str(tmp_path / "scores")])  # noqa: E731
    assert {"ask": ask_it, "score": score}[command]() == 1
    assert "python -m mllm_adapters.convert --model llava --checkpoint DIR" in capsys.readouterr().err
