"""Aligning a fresh connector with captions in closed form."""

from pathlib import Path

import pytest
import torch
from image_inputs import ImageInputs
from PIL import Image

from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.finetuning.alignment import align_connector
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

HOST = get_host("llava")
COLOURS = {"red eye": (220, 40, 30), "green eye": (40, 200, 60), "blue eye": (30, 60, 210)}


@pytest.fixture(scope="module")
def pooled(host_directory: Path, make_tower, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pooled") / "graft"
    graft_tower(HOST, host_directory, make_tower(), out, GraftSettings(tokens="pooled"))
    return out


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Twelve red images, four green and four blue ones, each of a shade of its own."""
    folder, pairs = tmp_path_factory.mktemp("coloured"), []
    for caption, count in zip(COLOURS, (12, 4, 4), strict=True):
        for i in range(count):
            path = folder / f"{caption}-{i}.png"
            Image.new("RGB", (24, 24), tuple(value + i for value in COLOURS[caption])).save(path)
            pairs.append((path, caption))
    return pairs


def seen(loaded, path: Path) -> torch.Tensor:
    """The image's token as the language model is given it, without what all captions have in common."""
    with torch.no_grad():
        inputs = ImageInputs(loaded, [path]).batch([path])
        return loaded.model.get_image_features(**inputs).pooler_output[0].flatten()


@pytest.mark.slow
def test_every_image_comes_to_lie_nearest_to_its_own_caption(pooled: Path, coloured: list[tuple[Path, str]]) -> None:
    loaded = load(pooled)
    add_lora(loaded.model, HOST, FinetuneSettings(rank=0))
    images = ImageInputs(loaded, [path for path, _ in coloured])
    before = seen(loaded, coloured[0][0])
    explained = align_connector(loaded, [c for _, c in coloured], [images.batch([path]) for path, _ in coloured])
    assert 0.8 < explained <= 1
    assert not torch.equal(seen(loaded, coloured[0][0]), before)
    table = loaded.model.get_input_embeddings().weight.detach()
    captions = {}
    for caption in COLOURS:
        ids = loaded.processor.tokenizer(caption, add_special_tokens=False)["input_ids"]
        captions[caption] = table[ids].sum(0) / len(ids) ** 0.5
    for path, caption in coloured:
        distances = {name: float((seen(loaded, path) - vector).norm()) for name, vector in captions.items()}
        assert min(distances, key=lambda name: distances[name]) == caption


def test_fine_tuning_starts_from_the_aligned_connector(
    pooled: Path, coloured: list[tuple[Path, str]], tmp_path: Path
) -> None:
    questions = [TrainingQuestion(path, "Which?", "A", caption) for path, caption in coloured]
    settings = FinetuneSettings(rank=0, steps=1, batch_size=4, connector_learning_rate=1e-12, align=True)
    tuned = load(finetune(pooled, questions, tmp_path / "tuned", settings))
    aligned = load(pooled)
    add_lora(aligned.model, HOST, FinetuneSettings(rank=0))
    images = ImageInputs(aligned, [path for path, _ in coloured], kept=True)
    batches = [images.batch([path for path, _ in coloured])]
    align_connector(aligned, [caption for _, caption in coloured], batches)
    images.close()
    for path, _ in coloured[::5]:
        torch.testing.assert_close(seen(tuned, path), seen(aligned, path), rtol=1e-4, atol=1e-5)


def test_aligning_needs_captions(pooled: Path, coloured: list[tuple[Path, str]], tmp_path: Path) -> None:
    questions = [TrainingQuestion(path, "Which?", "A") for path, _ in coloured]
    settings = FinetuneSettings(rank=0, steps=1, batch_size=4, align=True)
    with pytest.raises(ValueError, match="give every question a caption"):
        finetune(pooled, questions, tmp_path / "tuned", settings)
