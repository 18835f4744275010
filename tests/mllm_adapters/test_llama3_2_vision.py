"""Llama 3.2 Vision: untouched it is the stock model; a graft's states lie side by side, as deep as the host's own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import load_tower
from mgll.tower.model import normed
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

NAME = "llama3.2-vision"


@pytest.fixture(scope="module")
def graft(hosts: Callable[[str], Path], make_tower: Callable[..., Path], tmp_path_factory) -> Callable[..., Path]:
    def make(donor: Path | None = None, **settings: object) -> Path:
        out = tmp_path_factory.mktemp("graft") / "out"
        donor = donor or make_tower(size=32, hidden_size=24)
        graft_tower(get_host(NAME), hosts(NAME), donor, out, GraftSettings.model_validate(settings))
        return out

    return make


def states(loaded: LoadedHost, image: Path) -> torch.Tensor:
    inputs = loaded.processor(images=[open_image(image)], text=[loaded.host.prompt("What?")], return_tensors="pt")
    return loaded.host.encode(loaded.model.model.vision_model, loaded.model.config, dict(inputs))


def read_in(directory: Path) -> list[int]:
    return json.loads((directory / "config.json").read_text())["vision_config"]["intermediate_layers_indices"]


@torch.inference_mode()
def test_untouched_it_gives_the_stock_logits_of_wide_and_high_images(hosts: Callable[[str], Path]) -> None:
    loaded, directory = load(hosts(NAME)), hosts(NAME)
    stock = transformers.AutoModelForImageTextToText.from_pretrained(directory).eval()
    processor = transformers.AutoProcessor.from_pretrained(directory)
    noise = torch.randint(0, 256, (61, 20, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    images = [Image.fromarray(noise), Image.fromarray(noise.transpose(1, 0, 2)), Image.fromarray(noise[:20])]
    options = {"text": [loaded.host.prompt(f"What?{'?' * i}") for i in range(3)], "padding": True}
    options |= {"padding_side": "left", "return_tensors": "pt"}
    ours = loaded.processor(images=images, **options)
    theirs = processor(images=[[image] for image in images], add_special_tokens=False, **options)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert ours["aspect_ratio_mask"].sum(-1).flatten().tolist() == [2, 2, 1]
    assert int((ours["input_ids"][0] == loaded.processor.tokenizer.bos_token_id).sum()) == 1
    torch.testing.assert_close(loaded.model(**ours).logits, stock(**theirs).logits)


@torch.inference_mode()
def test_a_graft_reads_the_donor_as_deep_as_the_host_reads_its_own_tower(
    graft, make_tower, photographs: list[Path]
) -> None:
    encoder = make_tower(size=32, hidden_size=24)
    directory = graft(encoder)
    assert read_in(directory) == [2]  # behind the first of the host's 2 blocks is behind the second of the donor's 3
    assert {change.name.rpartition(".")[2] for change in validate(directory).changed("new")} == {"weight", "bias"}
    donor, header = load_tower(encoder)
    pixels = preprocess(open_image(photographs[0]), header.preprocessing)[None]
    own = donor(pixels, output_hidden_states=True).hidden_states
    found = states(load(directory), photographs[0])
    assert found.shape == (1, 1, 1, 17, 48)
    torch.testing.assert_close(found[0, 0], torch.cat((normed(donor, own[-1]), own[2]), dim=-1))


@torch.inference_mode()
def test_a_linear_layer_that_fits_is_kept(graft, hosts, make_tower) -> None:
    directory = graft(make_tower(size=32, hidden_size=16))
    assert not validate(directory).changed("new")
    own, kept = (load(path).model.model.multi_modal_projector.weight for path in (hosts(NAME), directory))
    assert torch.equal(own, kept)


@torch.inference_mode()
def test_a_donor_that_hands_on_one_state_gives_that_one(graft, photographs: list[Path]) -> None:
    directory = graft(tokens="pooled")
    assert read_in(directory) == []
    loaded = load(directory)
    found = states(loaded, photographs[0])
    assert found.shape == (1, 1, 1, 1, 24)
    assert found.shape[-1] == loaded.model.model.multi_modal_projector.in_features


def test_the_text_looks_at_the_image_from_its_place_on(graft, photographs: list[Path]) -> None:
    loaded = load(graft())
    inputs = loaded.processor(
        images=[open_image(photographs[0])], text=[loaded.host.prompt("What?")], return_tensors="pt"
    )
    place = int((inputs["input_ids"][0] == loaded.model.config.image_token_index).nonzero())
    looks = inputs["cross_attention_mask"][0, :, 0, 0].tolist()
    assert 3 < place < len(looks) - 3
    assert looks == [0] * place + [1] * (len(looks) - place)
