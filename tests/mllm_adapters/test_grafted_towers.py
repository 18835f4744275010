"""A grafted tower changes nothing but the tower: the stock code around the same donor gives the same logits."""

from pathlib import Path

import pytest
import torch
from tiny.internvl import save_internvl
from tiny.janus_pro import save_janus_pro
from transformers import InternVLConfig, InternVLForConditionalGeneration, JanusForConditionalGeneration

from mgll.images.preprocessing import open_image
from mgll.tower.file import load_tower
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load


def grafted(host: Host, save, encoder: Path, folder: Path) -> LoadedHost:
    save(folder / "host")
    graft_tower(host, folder / "host", encoder, folder / "graft")
    return load(folder / "graft")


def asked(loaded: LoadedHost, photograph: Path):
    prompt = loaded.host.prompt("What is it?")
    return loaded.processor(images=[open_image(photograph)], text=[prompt], return_tensors="pt")


def test_internvl_around_a_clip_tower(make_tower, photographs: list[Path], tmp_path: Path) -> None:
    """In memory the stock class does take a `CLIPVisionModel`; it is only that it never comes back from a file."""
    encoder = make_tower(size=32, hidden_size=24)
    loaded, donor = grafted(get_host("internvl"), save_internvl, encoder, tmp_path), load_tower(encoder)[0]
    settings = loaded.model.config.to_dict() | {
        "vision_config": donor.config,
        "vision_feature_select_strategy": "default",
    }
    stock = InternVLForConditionalGeneration(InternVLConfig(**settings)).eval()
    ours = loaded.model.state_dict()
    wanted = {name: ours[name.replace("vision_tower.", "vision_tower.donor.")] for name in stock.state_dict()}
    stock.load_state_dict(wanted, strict=True)
    inputs = asked(loaded, photographs[0])
    with torch.inference_mode():
        assert torch.equal(loaded.model(**inputs).logits, stock(**inputs).logits)


def test_janus_reads_the_donor_after_its_last_norm(make_tower, photographs: list[Path], tmp_path: Path) -> None:
    encoder = make_tower(size=32)  # as wide as the host's tower, so nothing is new
    loaded, donor = grafted(get_host("janus-pro"), save_janus_pro, encoder, tmp_path), load_tower(encoder)[0]
    stock = JanusForConditionalGeneration.from_pretrained(tmp_path / "host").eval()
    inputs = asked(loaded, photographs[0])
    with torch.inference_mode():
        tokens = donor.post_layernorm(donor(inputs["pixel_values"]).last_hidden_state)[:, 1:]
        embeddings = stock.get_input_embeddings()(inputs["input_ids"])
        slots = (inputs["input_ids"] == stock.config.image_token_id)[..., None]
        embeddings = embeddings.masked_scatter(slots, stock.model.aligner(tokens))
        expected = stock(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).logits
        torch.testing.assert_close(loaded.model(**inputs).logits, expected)


@pytest.mark.parametrize(("name", "save"), [("internvl", save_internvl), ("janus-pro", save_janus_pro)])
def test_a_second_loading_class_is_not_left_behind(name: str, save, make_tower, tmp_path: Path) -> None:
    """The class with the grafted tower is a subclass made for one load; the stock class stays what it was."""
    loaded = grafted(get_host(name), save, make_tower(size=32), tmp_path)
    untouched = load(tmp_path / "host")
    assert type(untouched.model).__name__ == type(loaded.model).__name__
    assert not any("donor" in key for key in untouched.model.state_dict())
