"""Hosts that cut tiles: untouched they see them as the stock classes do, and a graft sees the photograph once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import load_tower
from mllm_adapters.contract.terms import HostError
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOSTS = ("llava-next", "llava-onevision")
#: a wide, a high and a square photograph, for which the tiny hosts cut 2, 2 and 4 tiles
SHAPES = ((61, 20), (20, 61), (60, 60))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (height, width, 3), generator=generator) for width, height in SHAPES]
    return [Image.fromarray(each.to(torch.uint8).numpy()) for each in pixels]


@torch.inference_mode()
@pytest.mark.parametrize("name", HOSTS)
def test_untouched_hosts_give_the_stock_logits_of_images_with_more_and_fewer_tiles(
    name: str, hosts: Callable[[str], Path], images: list[Image.Image]
) -> None:
    loaded, directory = load(hosts(name)), hosts(name)
    stock = transformers.AutoModelForImageTextToText.from_pretrained(directory).eval()
    processor = transformers.AutoProcessor.from_pretrained(directory)
    options = {"text": [loaded.host.prompt("What?")] * 3, "padding": True, "padding_side": "left"}
    ours = loaded.processor(images=images, **options, return_tensors="pt")
    theirs = processor(images=images, **options, return_tensors="pt")
    assert ours["pixel_values"].shape[0] == 3 + 2 + 2 + 4  # the whole image, and its tiles
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    torch.testing.assert_close(loaded.model(**ours).logits, stock(**theirs).logits)


@torch.inference_mode()
@pytest.mark.parametrize("name", HOSTS)
def test_a_graft_sees_the_photograph_once_and_a_line_break(
    name: str, hosts: Callable[[str], Path], make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    encoder = make_tower(size=32, hidden_size=24)
    assert graft_tower(get_host(name), hosts(name), encoder, tmp_path / "graft").features == 4 * 4 + 1
    loaded, (donor, header) = load(tmp_path / "graft"), load_tower(encoder)
    inputs = loaded.processor(images=[open_image(photographs[0])], text=[loaded.host.prompt("?")], return_tensors="pt")
    pixels = preprocess(open_image(photographs[0]), header.preprocessing)[None]
    torch.testing.assert_close(inputs["pixel_values"], pixels)
    inner = loaded.model.model
    (found,) = inner.get_image_features(**{key: inputs[key] for key in ("pixel_values", "image_sizes")}).pooler_output
    state = donor(pixels, output_hidden_states=True).hidden_states[get_host(name).reads[0]][0, 1:]
    torch.testing.assert_close(found[:-1], inner.multi_modal_projector(state))
    assert torch.equal(found[-1], inner.image_newline)


@torch.inference_mode()
def test_idefics_gives_the_stock_logits_and_its_kept_states_too(
    hosts: Callable[[str], Path], images: list[Image.Image]
) -> None:
    loaded = load(hosts("idefics3"))
    stock = transformers.Idefics3ForConditionalGeneration.from_pretrained(hosts("idefics3")).eval()
    processor = transformers.AutoProcessor.from_pretrained(hosts("idefics3"))
    options = {"text": [loaded.host.prompt("What?")] * 3, "padding": True, "padding_side": "left"}
    ours = loaded.processor(images=images, **options, return_tensors="pt")
    theirs = processor(images=images, **options, return_tensors="pt")
    assert len(ours["pixel_values"]) > 3
    assert ours["pixel_values"].shape[1] == 1
    expected = stock(**theirs).logits
    torch.testing.assert_close(loaded.model(**ours).logits, expected)
    tower, config = loaded.model.get_submodule(loaded.host.tower), loaded.model.config
    kept = loaded.host.encode(tower, config, dict(ours))
    loaded.model.set_submodule(loaded.host.tower, loaded.host.replay(tower, config))
    torch.testing.assert_close(loaded.model(**{**ours, "pixel_values": kept}).logits, expected)


@pytest.mark.parametrize(("size", "block"), [(32, 2), (24, 1)])
def test_the_block_of_the_shuffle_divides_the_grid(
    size: int, block: int, hosts: Callable[[str], Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = make_tower(size=size, hidden_size=24)
    features = graft_tower(get_host("smolvlm"), hosts("smolvlm"), encoder, tmp_path / "graft").features
    assert features == (size // 8 // block) ** 2
    assert load(tmp_path / "graft").model.config.scale_factor == block


def test_another_language_model_is_refused(hosts: Callable[[str], Path], tmp_path: Path) -> None:
    other = shutil.copytree(hosts("llava-next"), tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["model_type"] = "llama"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(HostError, match=r"its language model is a 'llama'.*take llava-hf/llava-v1\.6-mistral-7b-hf"):
        get_host("llava-next").read_native(other)
