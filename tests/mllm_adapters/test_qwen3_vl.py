"""Qwen3-VL: what a graft does with the deep features (DeepStack)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from donors import save_donor

from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import load_tower
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import GraftSettings
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.qwen2_vl.visual import in_blocks
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

NAME = "qwen3-vl"


@pytest.fixture(scope="module")
def graft(hosts: Callable[[str], Path], make_tower: Callable[..., Path], tmp_path_factory) -> Callable[..., Path]:
    def make(donor: Path | None = None, **settings: object) -> Path:
        out = tmp_path_factory.mktemp("graft") / "out"
        donor = donor or make_tower(size=32, hidden_size=24)
        graft_tower(get_host(NAME), hosts(NAME), donor, out, GraftSettings.model_validate(settings))
        return out

    return make


def blocks_in(directory: Path) -> list[int]:
    return json.loads((directory / "config.json").read_text())["vision_config"]["deepstack_visual_indexes"]


def image_features(loaded: LoadedHost, image: Path) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, torch.Tensor]]:
    inputs = loaded.processor(images=[open_image(image)], text=[loaded.host.prompt("What?")], return_tensors="pt")
    found = loaded.model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    return found.pooler_output[0], [deep[0] for deep in found.deepstack_features], inputs


@torch.inference_mode()
def test_a_graft_reads_the_donor_as_deep_as_the_host_reads_its_own_tower(
    graft, make_tower, photographs: list[Path]
) -> None:
    encoder = make_tower(size=32, hidden_size=24)
    directory = graft(encoder)
    assert blocks_in(directory) == [1]  # block 1 of the host's 2 is the second of the donor's 3
    loaded, (donor, header) = load(directory), load_tower(encoder)
    pixels = preprocess(open_image(photographs[0]), header.preprocessing)[None]
    states = donor(pixels, output_hidden_states=True).hidden_states
    visual = loaded.model.model.visual
    torch.nn.init.normal_(visual.deepstack_merger_list[0].linear_fc2.weight)  # it starts at 0
    last, (deep,), _ = image_features(loaded, photographs[0])
    torch.testing.assert_close(last, visual.merger(in_blocks(states[-1][:, 1:], 2)))
    torch.testing.assert_close(deep, visual.deepstack_merger_list[0](in_blocks(states[2][:, 1:], 2)))


@torch.inference_mode()
def test_new_mergers_of_deep_features_add_nothing_before_they_are_trained(graft, photographs: list[Path]) -> None:
    directory = graft()
    new = {change.name for change in validate(directory).changed("new")}
    assert {name for name in new if "deepstack" in name and "fc2" in name}
    last, (deep,), _ = image_features(load(directory), photographs[0])
    assert last.any()
    assert not deep.any()


@torch.inference_mode()
def test_mergers_that_fit_are_kept(graft, hosts, make_tower, photographs: list[Path]) -> None:
    directory = graft(make_tower(size=32, hidden_size=16))
    assert not validate(directory).changed("new")
    own, kept = (load(path).model.model.visual.deepstack_merger_list.state_dict() for path in (hosts(NAME), directory))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in own.items())
    assert image_features(load(directory), photographs[0])[1][0].any()


@pytest.mark.parametrize("kind", ["pooled", "convnext"])
def test_a_donor_that_hands_on_one_state_leaves_no_deep_features(
    kind: str, graft, tmp_path: Path, photographs: list[Path]
) -> None:
    directory = graft(tokens="pooled") if kind == "pooled" else graft(save_donor(kind, tmp_path / "donor.ckpt"))
    assert blocks_in(directory) == []
    dropped = validate(directory).changed("dropped")
    assert any("deepstack_merger_list" in change.name for change in dropped)
    assert image_features(load(directory), photographs[0])[1] == []


def test_blocks_follow_the_layer_that_is_read(graft) -> None:
    assert blocks_in(graft(feature_layer=-2)) == [0]  # of the two blocks up to there


@torch.inference_mode()
@pytest.mark.parametrize("which", ["host", "graft"])
def test_kept_states_give_the_same_features(which: str, graft, hosts, photographs: list[Path]) -> None:
    loaded = load(hosts(NAME) if which == "host" else graft(feature_layer=-1))
    last, deep, inputs = image_features(loaded, photographs[1])
    visual, config = loaded.model.model.visual, loaded.model.config
    states = loaded.host.encode(visual, config, dict(inputs))
    again = loaded.host.replay(visual, config)(states)
    torch.testing.assert_close(again.pooler_output, last, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.deepstack_features, deep, atol=1e-5, rtol=1e-5)
    assert len(deep) == 1
