"""The demo's LLaVA: loads in plain transformers, sees what the tower sees, reads what the decoder reads."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing, preprocess
from mgll.tower.file import load_tower, save_tower
from mgll.vocabulary.questions import question_text
from mllm_adapters.demo.decoder import build_tokenizer, shipped_decoder
from mllm_adapters.demo.host import DemoHostSettings, build_demo_host, demo_checkpoint, save_random_tower
from mllm_adapters.demo.reading import text_only_accuracy, text_questions
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("llava")
QUESTION = question_text("What diagnosis is most likely?", ["Drusen", "Glaucoma", "Health", "Cataract"])


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    path = tmp_path_factory.mktemp("tower") / "nano.ckpt"
    torch.manual_seed(0)
    save_tower(path, vision_encoder("vit-nano-16", 64), Preprocessing(size=64), pooling="mean")
    return path


@pytest.fixture(scope="module")
def host(tower, tmp_path_factory):
    return build_demo_host(tower, tmp_path_factory.mktemp("host") / "host")


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))


def test_plain_transformers_loads_it_with_nothing_missing(host, tower):
    model, info = LlavaForConditionalGeneration.from_pretrained(host, output_loading_info=True)
    assert not any(info.values())
    encoder, _ = load_tower(tower)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], tensor)
    for name, tensor in shipped_decoder().model.state_dict().items():
        assert torch.equal(model.model.language_model.state_dict()[name], tensor)
    assert (host / "model.safetensors").is_file()
    assert all(torch.isfinite(tensor).all() for tensor in load_file(host / "model.safetensors").values())


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
def test_the_processor_does_what_the_tower_was_trained_with(resize, tmp_path, image):
    preprocessing = Preprocessing(size=64, resize=resize, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25))
    torch.manual_seed(0)
    save_tower(tmp_path / "t.ckpt", vision_encoder("vit-nano-16", 64), preprocessing)
    processor = AutoProcessor.from_pretrained(build_demo_host(tmp_path / "t.ckpt", tmp_path / "host"))
    pixels = processor(images=[image], text=[HOST.prompt(QUESTION)], return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(pixels, preprocess(image, preprocessing), atol=1e-5)


@pytest.mark.parametrize(("select", "tokens"), [("default", 16), ("full", 17)])
def test_as_many_placeholders_as_features(select, tokens, tower, tmp_path, image):
    loaded = load(build_demo_host(tower, tmp_path / "host", DemoHostSettings(feature_select=select)))
    inputs = loaded.processor(images=[image], text=[HOST.prompt(QUESTION)], return_tensors="pt")
    assert (inputs["input_ids"] == loaded.model.config.image_token_id).sum() == tokens
    assert loaded.model.config.image_seq_length == tokens
    with torch.inference_mode():
        assert torch.isfinite(loaded.model(**inputs).logits).all()


def test_the_image_reaches_the_answer(host, image):
    loaded = load(host)
    other = Image.new("RGB", (64, 64), (220, 90, 30))
    inputs = loaded.processor(images=[image, other], text=[HOST.prompt(QUESTION)] * 2, return_tensors="pt")
    with torch.inference_mode():
        first, second = loaded.model(**inputs).logits[:, -1]
    assert not torch.allclose(first, second, atol=1e-4)


def test_it_tokenises_as_the_decoder_was_warmed_and_still_reads(host):
    loaded = load(host)
    prompt = text_questions(1, 0)[0][0]
    assert loaded.processor.tokenizer(prompt)["input_ids"] == build_tokenizer()(prompt)["input_ids"]
    assert text_only_accuracy(loaded.model, loaded.processor, count=224) >= 0.9


def test_the_same_arguments_give_the_same_bytes(host, tower, tmp_path):
    again = build_demo_host(tower, tmp_path / "host")
    records = [json.loads((folder / "demo_host.json").read_text(encoding="utf-8")) for folder in (host, again)]
    assert [record.pop("provenance") for record in records]  # its git commit may move while the tests run
    assert records[0] == records[1]
    for file in sorted(path.name for path in host.iterdir() if path.name != "demo_host.json"):
        assert (again / file).read_bytes() == (host / file).read_bytes(), file
    other = build_demo_host(tower, tmp_path / "other", DemoHostSettings(seed=1))
    names = [name for name, tensor in load_file(host / "model.safetensors").items()
             if not torch.equal(tensor, load_file(other / "model.safetensors")[name])]  # fmt: skip
    assert names
    assert all("multi_modal_projector" in name for name in names)


def test_wrong_towers_and_layers_are_refused(tower, tmp_path):
    with pytest.raises(ValueError, match="has 4 blocks"):
        build_demo_host(tower, tmp_path / "host", DemoHostSettings(feature_layer=9))
    with pytest.raises(FormatError, match="no such tower"):
        build_demo_host(tmp_path / "none.ckpt", tmp_path / "host")
    assert not (tmp_path / "host").exists()


@pytest.mark.slow
def test_the_demo_checkpoint_is_built_once_and_again_when_damaged(tmp_path):
    first = demo_checkpoint(tmp_path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert demo_checkpoint(tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    (first / "demo_host.json").write_text("{", encoding="utf-8")
    demo_checkpoint(tmp_path)
    assert json.loads((first / "demo_host.json").read_text(encoding="utf-8"))["tower_sha256"]
    assert load(first).host is HOST


def test_the_random_tower_is_seeded(tmp_path):
    squash = Preprocessing(size=32, resize="squash")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_random_tower(tmp_path / f"{name}.ckpt", seed, "vit-nano-16", squash)
    a, b, c = (load_tower(tmp_path / f"{name}.ckpt")[0].embeddings.class_embedding for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert (
        load_tower(tmp_path / "a.ckpt")[1].preprocessing == squash
    )  # a control sees the pixels that it is compared on
