"""Qwen2-VL and Qwen2.5-VL: blocks, positions along three axes, a merger trained in the tower's place, published files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_inputs import ImageInputs, text_inputs
from PIL import Image
from safetensors.torch import load_file, save_file
from scored_question import last_logits
from tiny.qwen2_5_vl import save_qwen2_5_vl
from tiny.qwen2_vl import save_qwen2_vl
from torch import Tensor
from transformers import Qwen2VLImageProcessor

from mgll.formats import FormatError
from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import load_tower, read_header
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.dry_run import dry_run
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.qwen2_vl.visual import in_blocks
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

FAMILIES = {"qwen2-vl": save_qwen2_vl, "qwen2.5-vl": save_qwen2_5_vl}
QUESTION = "What is it?\nA. one\nB. two\nC. three\nD. four"


@pytest.fixture(scope="module", params=FAMILIES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp("host") / request.param
    FAMILIES[request.param](directory)
    return request.param, directory


@pytest.fixture(scope="module")
def encoder(make_tower: Callable[..., Path]) -> Path:
    return make_tower(size=32, hidden_size=24)


@pytest.fixture(scope="module")
def grafted(host: tuple[str, Path], encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graft") / "out"
    graft_tower(get_host(host[0]), host[1], encoder, out)
    return out


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of three shapes, which the untouched hosts give 4, 6 and 3 image tokens."""
    folder, generator = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    paths = []
    for i, (height, width) in enumerate([(32, 32), (34, 47), (16, 48)]):
        paths.append(folder / f"{i}.png")
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def encoded(loaded, path: Path) -> dict[str, Tensor]:
    return loaded.processor(images=[open_image(path)], text=[loaded.host.prompt(QUESTION)], return_tensors="pt")


def test_blocks_are_those_of_the_stock_image_processor() -> None:
    side, patch = 6, 4
    numbers = torch.arange(side * side).float()
    image = numbers.view(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1).expand(2, 3, -1, -1)
    patches, *grid = Qwen2VLImageProcessor().patchify(image, patch_size=patch, merge_size=2, temporal_patch_size=2)
    assert grid == [side, side]
    ours = in_blocks(numbers.view(1, -1, 1).expand(2, -1, -1), 2)
    assert torch.equal(ours[:, 0], patches[..., 0].flatten())
    assert ours[:8, 0].tolist() == [0, 1, 6, 7, 2, 3, 8, 9]


@torch.inference_mode()
def test_the_donor_sees_its_own_preprocessing_and_its_blocks_are_merged(
    grafted: Path, encoder: Path, shapes: list[Path]
) -> None:
    loaded, (donor, header) = load(grafted), load_tower(encoder)
    for path in shapes:
        inputs = encoded(loaded, path)
        assert inputs["image_grid_thw"].tolist() == [[1, 4, 4]]
        pixels = preprocess(open_image(path), header.preprocessing)
        torch.testing.assert_close(inputs["pixel_values"][0], pixels)
        state = donor(pixels[None]).last_hidden_state[0, 1:].view(4, 4, 24)
        blocks = [state[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(4, 24) for i in range(2) for j in range(2)]
        merger = loaded.model.model.visual.merger
        expected = torch.cat([merger(block) for block in blocks])
        found = loaded.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        torch.testing.assert_close(found[0], expected)


@torch.inference_mode()
def test_positions_keep_their_three_axes(host: tuple[str, Path], grafted: Path, shapes: list[Path]) -> None:
    for directory in (host[1], grafted):
        loaded = load(directory)
        scored = last_logits(loaded, [open_image(shapes[0])], [loaded.host.prompt(QUESTION)])
        inputs = encoded(load(directory), shapes[0])
        length = inputs["input_ids"].shape[1]
        model, flat = loaded.model, torch.arange(length)[None]
        torch.testing.assert_close(scored, model(**inputs).logits[:, -1])
        assert not torch.allclose(scored, model(**inputs, position_ids=flat).logits[:, -1], atol=1e-4)


@torch.inference_mode()
def test_batches_padded_on_the_left_are_scored_like_single_questions(
    host: tuple[str, Path], grafted: Path, shapes: list[Path]
) -> None:
    for directory in (host[1], grafted):
        loaded = load(directory)
        prompts = [loaded.host.prompt(text) for text in (QUESTION, "Short?", "A little longer?")]
        images = [open_image(path) for path in shapes]
        together = last_logits(loaded, images, prompts)
        alone = torch.cat([last_logits(loaded, [image], [text]) for image, text in zip(images, prompts, strict=True)])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_states_that_are_fed_give_what_the_tower_gives(
    host: tuple[str, Path], grafted: Path, shapes: list[Path]
) -> None:
    for directory in (host[1], grafted):
        loaded = load(directory)
        texts = text_inputs(loaded, [TrainingQuestion(path, QUESTION, "B") for path in shapes])
        plain = ImageInputs(loaded, shapes)
        assert not plain.features
        expected = loaded.model(**texts, **plain.batch(shapes)).logits
        fed = ImageInputs(loaded, shapes, kept=True)
        assert fed.features
        for _ in range(2):
            torch.testing.assert_close(loaded.model(**texts, **fed.batch(shapes)).logits, expected)
        fed.close()
        assert torch.equal(loaded.model(**texts, **plain.batch(shapes)).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_the_untouched_host_is_fine_tuned_on_images_of_every_shape(
    host: tuple[str, Path], shapes: list[Path], cache: float, tmp_path: Path
) -> None:
    questions = [TrainingQuestion(path, QUESTION, letter) for path, letter in zip(shapes, "ABC", strict=True)]
    settings = FinetuneSettings(
        rank=2, steps=2, batch_size=3, learning_rate=0.05, connector_learning_rate=0.05, image_cache_gib=cache
    )
    before, after = load(host[1]).model, load(finetune(host[1], questions, tmp_path / "out", settings)).model
    old = dict(before.named_parameters())
    changed = {
        name.replace(".modules_to_save.default", "")
        for name, tensor in after.named_parameters()
        if ".modules_to_save." in name and not torch.equal(tensor, old[name.replace(".modules_to_save.default", "")])
    }
    assert changed == {name for name in old if ".visual.merger." in name}


@torch.inference_mode()
def test_it_generates_with_beams_and_cache(grafted: Path, shapes: list[Path]) -> None:
    loaded = load(grafted)
    inputs = encoded(loaded, shapes[1])
    length = inputs["input_ids"].shape[1]
    assert loaded.model.generate(**inputs, max_new_tokens=3, num_beams=2, do_sample=False).shape[1] > length
    said = loaded.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)[0, length:].tolist()
    eos = loaded.processor.tokenizer.eos_token_id
    ids, types = inputs["input_ids"], inputs["mm_token_type_ids"]
    rest = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    for token in said:
        logits = loaded.model(input_ids=ids, mm_token_type_ids=types, **rest).logits[0, -1]
        logits[eos] = -torch.inf
        assert int(logits.argmax()) == token
        ids = torch.cat((ids, torch.tensor([[token]])), dim=1)
        types = torch.cat((types, torch.zeros_like(types[:, :1])), dim=1)


def split_as_published(directory: Path, out: Path, current_names: bool = False) -> dict[str, Tensor]:
    """The same checkpoint with hub's files: the first of two shards holds tower, merger and half of the decoder."""
    out.mkdir()
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
        elif path.name not in ("config.json", "processor_config.json", "model.safetensors.index.json"):
            (out / path.name).write_bytes(path.read_bytes())
    assert {name.split(".")[0] for name in tensors} == {"visual", "model", "lm_head"}
    if current_names:
        tensors = {
            "model." + name.replace("model.", "language_model.") if name != "lm_head.weight" else name: tensor
            for name, tensor in tensors.items()
        }
    weight_map = {}
    for number in (1, 2):
        late = {name for name in tensors if "layers.1." in name or "norm.weight" in name.split("model.")[-1][:11]}
        late |= {"lm_head.weight"}
        shard = f"model-0000{number}-of-00002.safetensors"
        part = {name: tensor for name, tensor in tensors.items() if (name in late) == (number == 2)}
        save_file(part, out / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config, processor = (
        json.loads((directory / name).read_text()) for name in ("config.json", "processor_config.json")
    )
    (out / "config.json").write_text(json.dumps(config if current_names else flat(config)))
    image = processor["image_processor"] | {"processor_class": processor["processor_class"]}
    pixels = image.pop("size")
    image |= {"min_pixels": pixels["shortest_edge"], "max_pixels": pixels["longest_edge"]}
    (out / "preprocessor_config.json").write_text(json.dumps(image))
    return tensors


def flat(config: dict) -> dict:
    """The decoder's settings beside those of the whole, as in the published config.json."""
    text = dict(config["text_config"])
    rope = text.pop("rope_parameters")
    text.pop("model_type")
    vision = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    return {
        **text,
        **{key: value for key, value in config.items() if key != "text_config"},
        "vision_config": vision,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }


@pytest.mark.parametrize("current_names", [False, True])
def test_published_files_tensor_by_tensor(
    host: tuple[str, Path], encoder: Path, shapes: list[Path], current_names: bool, tmp_path: Path
) -> None:
    name, directory = host
    published, spec = tmp_path / "published", get_host(name)
    split_as_published(directory, published, current_names)
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    untouched, original = load(published), load(directory)
    assert untouched.model.config.text_config.rope_parameters["mrope_section"] == [4, 2, 2]
    same = encoded(untouched, shapes[1])
    with torch.inference_mode():
        assert torch.equal(untouched.model(**same).logits, original.model(**encoded(original, shapes[1])).logits)

    dry, of_original = dry_run(spec, published, encoder), dry_run(spec, directory, encoder)
    assert dry.adapted == of_original.adapted
    assert len(dry.adapted) == 14  # seven maps in each of two layers
    assert dry.connector == of_original.connector

    record = graft_tower(spec, published, encoder, tmp_path / "graft")
    assert validate(tmp_path / "graft") == record
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before
    pure = "model-00002-of-00002.safetensors"
    assert (tmp_path / "graft" / pure).samefile(published / pure)
    assert not [n for n in load_file(tmp_path / "graft" / "model-00001-of-00002.safetensors") if "visual" in n]

    model = load(tmp_path / "graft").model
    found = model.state_dict()
    donor = {f"model.visual.donor.{n}": tensor for n, tensor in load_tower(encoder)[0].state_dict().items()}
    kept = {n: tensor for n, tensor in original.model.state_dict().items() if ".visual." not in n}
    merger = {n for n in original.model.state_dict() if ".visual.merger." in n}
    assert found.keys() == donor.keys() | kept.keys() | merger
    assert [n for n, tensor in (donor | kept).items() if not torch.equal(found[n], tensor)] == []
    new = {change.name.rpartition("visual.")[2] for change in record.changed("new")}
    assert new == {n.rpartition("visual.")[2] for n in merger}
    assert torch.equal(model.model.visual.merger.ln_q.weight, torch.ones(24))
    assert model.model.visual.merger.mlp[0].weight.shape == (96, 96)


def test_a_merger_that_fits_is_kept_unless_a_new_one_is_asked_for(
    host: tuple[str, Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    name, directory = host
    encoder = make_tower(size=32, hidden_size=16)
    record = graft_tower(get_host(name), directory, encoder, tmp_path / "kept")
    assert record.changed("new") == []
    old, found = load(directory).model.state_dict(), load(tmp_path / "kept").model.state_dict()
    merger = [n for n in old if ".merger." in n]
    assert len(merger) == (6 if name == "qwen2-vl" else 5)
    assert all(torch.equal(old[n], found[n]) for n in merger)
    fresh = graft_tower(get_host(name), directory, encoder, tmp_path / "new", GraftSettings(connector="new"))
    assert len(fresh.changed("new")) == len(merger)


def test_image_tokens_of_each_policy(host: tuple[str, Path], encoder: Path, shapes: list[Path], tmp_path: Path) -> None:
    counts = {"native": 4, "pooled": 1, "resize_features": 28**2, "resize_posemb": 28**2}  # 448 px in patches of 8
    for tokens, count in counts.items():
        out = tmp_path / tokens
        assert graft_tower(get_host(host[0]), host[1], encoder, out, GraftSettings(tokens=tokens)).features == count
        loaded = load(out)
        ids = encoded(loaded, shapes[2])["input_ids"]
        assert int((ids == loaded.model.config.image_token_id).sum()) == count


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [
        (24, {}, "a grid of side 3; use --tokens resize_features"),
        (32, {"feature_select": "full"}, "and a class token"),
        (32, {"feature_layer": 7}, "feature layer 7 does not exist"),
    ],
)
def test_what_the_merger_cannot_take_is_refused(
    host: tuple[str, Path], size: int, settings: dict, message: str, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(HostError, match=message):
        graft_tower(get_host(host[0]), host[1], make_tower(size=size), tmp_path / "graft", GraftSettings(**settings))
    assert not (tmp_path / "graft").exists()


def test_a_checkpoint_without_a_merger_is_refused(host: tuple[str, Path], encoder: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    split_as_published(host[1], published)
    path = published / "model-00001-of-00002.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if ".merger." not in name}
    save_file(tensors, path, {"format": "pt"})
    index = json.loads((published / "model.safetensors.index.json").read_text())
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if ".merger." not in name}
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"missing_keys: .*visual\.merger\."):
        graft_tower(get_host(host[0]), published, encoder, tmp_path / "graft")


def test_preprocessing_of_the_donor_is_written(grafted: Path, encoder: Path) -> None:
    written = json.loads((grafted / "square_images.json").read_text())
    assert (written["grid"], written["merge_size"]) == (4, 2)
    assert tuple(written["image_mean"]) == read_header(encoder).preprocessing.mean
