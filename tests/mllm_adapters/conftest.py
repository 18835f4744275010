"""Tiny hosts of real classes with random weights, donor towers, and grafts of them; shared by the tests of grafts."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file
from scored_question import QUESTION
from tiny.any_host import save_tiny
from tiny_tokenizer import byte_tokenizer
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
)

from benchmark.cases.building import build_cases
from benchmark.cases.overlap import OverlapCheck
from mgll.images.preprocessing import Preprocessing
from mgll.synthetic import generate
from mgll.tower.file import save_tower
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

SIZE, PATCH, WIDTH = 24, 8, 16


def vision_config(**changes: object) -> CLIPVisionConfig:
    settings: dict[str, object] = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 3}
    settings |= {"num_attention_heads": 2, "image_size": SIZE, "patch_size": PATCH} | changes
    return CLIPVisionConfig(**settings)


@pytest.fixture(scope="session")
def host_model() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    text = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():  # biases and norms start at 0 and 1; make every tensor telling
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


@pytest.fixture(scope="session")
def host_directory(host_model: LlavaForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("host") / "llava"
    host_model.save_pretrained(directory, max_shard_size="40KB")
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessor(size={"height": SIZE, "width": SIZE}, do_center_crop=False, do_pad=True),
        tokenizer=byte_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def host(name: str) -> Path:
        if name not in made:
            made[name] = save_tiny(name, tmp_path_factory.mktemp("hosts") / name)
        return made[name]

    return host


@pytest.fixture(scope="session")
def make_tower(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(seed: int = 1, size: int = SIZE, resize: str = "pad", **config: object) -> Path:
        torch.manual_seed(seed)
        model = CLIPVisionModel(vision_config(image_size=size, **config))
        path = tmp_path_factory.mktemp("tower") / "mgll.ckpt"
        save_tower(path, model, Preprocessing(size=size, resize=resize, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3)))
        return path

    return make


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    paths = []
    for i in range(6):
        pixels = generator.integers(0, 256, (30 + i, 41, 3), dtype=np.uint8)
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def mixed_shards(host_directory: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The host with tower and language model mixed in every shard, as published checkpoints have them.

    `legacy` names are those of llava-hf's files, `current` those of the model in memory, `single` is one file without an index.
    """

    def make(names: str) -> Path:
        from safetensors.torch import load_file

        directory = tmp_path / f"host-{names}"
        directory.mkdir()
        tensors = {}
        for path in sorted(host_directory.iterdir()):
            if path.suffix == ".safetensors":
                tensors |= load_file(path)
            elif not path.name.endswith("index.json"):
                shutil.copy(path, directory)
        rename = {"legacy": _legacy, "current": _current, "single": _legacy}[names]
        tensors = {rename(name): tensor for name, tensor in tensors.items()}
        if names == "single":
            save_file(tensors, directory / "model.safetensors", {"format": "pt"})
            return directory
        weight_map = {}
        for shard in range(3):
            chosen = {n: t for i, (n, t) in enumerate(sorted(tensors.items())) if i % 3 == shard}
            if shard == 2:  # and one shard without any tensor of the tower
                chosen = {n: t for n, t in chosen.items() if "vision_tower" not in n}
            elif shard == 0:
                others = [n for i, n in enumerate(sorted(tensors)) if i % 3 == 2 and "vision_tower" in n]
                chosen |= {n: tensors[n] for n in others}
            name = f"model-0000{shard + 1}-of-00003.safetensors"
            save_file(chosen, directory / name, {"format": "pt"})
            weight_map |= dict.fromkeys(chosen, name)
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return directory

    return make


def _legacy(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def _current(name: str) -> str:
    if name.startswith("language_model.lm_head"):
        return name.removeprefix("language_model.")
    return "model." + name.replace("language_model.model.", "language_model.")


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions about synthetic eyes."""
    folder = tmp_path_factory.mktemp("cases")
    manifest = generate(folder / "eyes", 24, seed=0, size=32)
    build_cases(str(manifest), folder / "cases.jsonl", "train", OverlapCheck(), min_images=1, count=4)
    return folder / "cases.jsonl"


@pytest.fixture(scope="session")
def donor(make_tower: Callable[..., Path]) -> Path:
    """A tower whose width is no host's, so that every connector gets new tensors where it can."""
    return make_tower(size=32, hidden_size=24)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder that one of pytest-xdist's workers makes for all: tests of several files need the same grafts."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"

    def made(name: str, make: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        with FileLock(shared / f"{name}.lock"):
            done = shared / f"{name}.done"
            if not done.exists():
                make(shared / name)
                done.touch()
        return shared / name

    return made


@pytest.fixture(scope="session")
def grafts(hosts: Callable[[str], Path], donor: Path, once: Callable[..., Path]) -> Callable[..., Path]:
    """The graft of the donor in the tiny host of a name, by token policy."""

    def grafted(name: str, tokens: str = "native") -> Path:
        settings = GraftSettings(tokens=tokens)
        return once(f"{name}-{tokens}", lambda out: graft_tower(get_host(name), hosts(name), donor, out, settings))

    return grafted


@pytest.fixture(scope="session")
def tuned(grafts: Callable[..., Path], photographs: list[Path], once: Callable[..., Path]) -> Callable[[str], Path]:
    """The graft in the host of a name after two steps that move every layer, but not so far that rounding is what it says."""
    settings = FinetuneSettings(rank=2, steps=2, batch_size=2, learning_rate=0.01, connector_learning_rate=0.01)

    def fine_tuned(name: str) -> Path:
        questions = [TrainingQuestion(photographs[i], QUESTION, "ABCD"[i]) for i in range(4)]
        return once(f"{name}-tuned", lambda out: finetune(grafts(name), questions, out, settings))

    return fine_tuned
