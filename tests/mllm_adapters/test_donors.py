"""Donors that are no CLIP towers: without a class token, with registers, convolutional grids; in every host."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from donors import DONORS, donor_model, save_donor
from scored_question import QUESTION, letter_scores
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from mgll.images.preprocessing import Preprocessing, open_image
from mgll.tower.file import save_tower
from mgll.tower.model import build_model
from mgll.weights.stored import read_stored
from mllm_adapters import swap
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.contract.token_policy import resize_grid
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.dry_run import dry_run
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.graft.weights import TOWER_SHARD
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion


@pytest.fixture(scope="session")
def donors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def donor(name: str) -> Path:
        if name not in made:
            made[name] = save_donor(name, tmp_path_factory.mktemp("donors") / f"{name}.ckpt")
        return made[name]

    return donor


@pytest.mark.slow_except("llava-siglip", "llava-convnext")
@pytest.mark.parametrize("donor", ["siglip", "convnext"])
@pytest.mark.parametrize("name", HOSTS)
def test_every_host_takes_it(
    name: str,
    donor: str,
    hosts,
    donors,
    photographs: list[Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "graft"
    graft_tower(get_host(name), hosts(name), donors(donor), out)
    record = validate(out)
    assert record.features == record.placeholders
    loaded = load(out)
    tower = loaded.model.get_submodule(loaded.host.tower)
    tensors = getattr(tower, "donor", tower).state_dict()
    expected = donor_model(donor).state_dict()
    assert tensors.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(tensors[key], expected[key])] == []
    images = [open_image(path) for path in photographs[:2]]
    first = letter_scores(out, *images)
    assert first[0].log_probs != first[1].log_probs  # the image is seen
    again = letter_scores(out, *images)
    assert [score.log_probs for score in first] == [score.log_probs for score in again]


def direct_tokens(name: str, model: Any, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """The grid's tokens, asked of the class itself."""
    if name in ("convnext", "resnet"):
        return model.timm_model.forward_features(pixels).flatten(2).transpose(1, 2)
    if name == "timm-average":
        blocks = model.timm_model.blocks
        return blocks[: len(blocks) + layer + 1](model.timm_model.patch_embed(pixels) + model.timm_model.pos_embed)
    if name == "rotary":
        model, layer = model.timm_model, layer + len(model.timm_model.blocks)
        return model.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)[layer]
    prefix = {"siglip": 0, "vit": 1, "registers": 5}[name]
    return model(pixels, output_hidden_states=True).hidden_states[layer][:, prefix:]


def direct_feature(name: str, model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The pooled feature, asked of the class itself."""
    output = model(pixels)
    if name in ("siglip", "convnext"):
        return output.pooler_output
    if name == "resnet":
        return output.last_hidden_state.mean(dim=(2, 3))
    if name == "timm-average":
        return output.last_hidden_state.mean(dim=1)
    if name == "rotary":
        return model.timm_model.fc_norm(output.last_hidden_state[:, 0])
    return output.last_hidden_state[:, 0]


@pytest.mark.parametrize("tokens", ["native", "resize_features", "resize_posemb", "pooled"])
@pytest.mark.parametrize("name", DONORS)
def test_the_connector_is_given_what_the_donors_own_class_says(
    name: str, tokens: str, host_directory: Path, donors, photographs: list[Path], tmp_path: Path
) -> None:
    """The host's grid is 3 x 3, the donor's 4 x 4; its hidden state is -2."""
    record = graft_tower(
        get_host("llava"), host_directory, donors(name), tmp_path / "graft", GraftSettings(tokens=tokens)
    )
    assert record.features == {"native": 16, "pooled": 1}.get(tokens, 9)
    assert (record.loads_in == "transformers") == (name == "siglip" and tokens in ("native", "resize_posemb"))
    loaded = load(tmp_path / "graft")
    inputs = loaded.processor(images=open_image(photographs[0]), text=loaded.host.prompt("What?"), return_tensors="pt")
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == record.features
    size = DONORS[name][1]
    assert inputs["pixel_values"].shape[-1] == (size * 3 // 4 if tokens == "resize_posemb" else size)
    tower = loaded.model.model.vision_tower
    with torch.inference_mode():
        model = getattr(tower, "donor", tower) if tokens == "resize_posemb" else donor_model(name)
        if tokens == "pooled":
            expected = direct_feature(name, model, inputs["pixel_values"])[:, None]
        else:
            expected = direct_tokens(name, model, inputs["pixel_values"], -2)
        if tokens == "resize_features":
            expected = resize_grid(expected, 3)
        seen = loaded.model.model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        torch.testing.assert_close(seen, loaded.model.model.multi_modal_projector(expected)[0])


def test_interpolated_positions_are_in_the_weights(host_directory: Path, donors, tmp_path: Path) -> None:
    tables = {
        "siglip": "embeddings.position_embedding.weight",
        "registers": "embeddings.position_embeddings",
        "timm-average": "timm_model.pos_embed",
    }
    for name, table in tables.items():
        out = tmp_path / name
        graft_tower(get_host("llava"), host_directory, donors(name), out, GraftSettings(tokens="resize_posemb"))
        tower = load(out).model.model.vision_tower
        found, own = (model.state_dict()[table] for model in (getattr(tower, "donor", tower), donor_model(name)))
        rows = own.shape[-2] - 16
        assert found.shape[-2] == rows + 9
        assert torch.equal(found[..., :rows, :], own[..., :rows, :])


@pytest.mark.parametrize("name", ["siglip", "registers"])
def test_the_class_token_alone_is_kept_of_the_tokens_before_the_grid(
    name: str, host_directory: Path, donors, photographs: list[Path], tmp_path: Path
) -> None:
    settings, out = GraftSettings(feature_select="full", feature_layer=-1), tmp_path / "graft"
    if name == "siglip":
        with pytest.raises(HostError, match="no class token to keep"):
            graft_tower(get_host("llava"), host_directory, donors(name), out, settings)
        return
    assert graft_tower(get_host("llava"), host_directory, donors(name), out, settings).features == 17
    pixels = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        seen = load(out).model.model.vision_tower(pixels).hidden_states[-1]
        states = donor_model(name)(pixels, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(seen, torch.cat((states[:, :1], states[:, 5:]), dim=1))


@pytest.mark.parametrize(
    ("host", "donor", "settings", "match"),
    [
        ("llava", "convnext", {"feature_layer": -2}, "its last grid only"),
        ("llava", "siglip", {"feature_layer": 4}, "the donor has 3 blocks"),
        ("janus-pro", "resnet", {"feature_select": "full"}, "no class token"),
        ("qwen2-vl", "registers", {"feature_select": "full"}, "no class token"),
    ],
)
def test_what_a_donor_does_not_have_is_refused(
    host: str,
    donor: str,
    settings: dict[str, Any],
    match: str,
    hosts,
    donors,
    tmp_path: Path,
) -> None:
    with pytest.raises(HostError, match=match):
        graft_tower(get_host(host), hosts(host), donors(donor), tmp_path / "graft", GraftSettings(**settings))
    assert not (tmp_path / "graft").exists()


def test_a_donor_whose_tensors_depend_on_the_size_keeps_it(host_directory: Path, tmp_path: Path) -> None:
    config = {
        "model_type": "timm_wrapper",
        "architecture": "beit_base_patch16_224",
        "model_args": {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2},
    }
    save_tower(tmp_path / "beit.ckpt", build_model(config), Preprocessing(size=64), "mean")
    settings = GraftSettings(tokens="resize_posemb")
    with pytest.raises(HostError, match=r"relative_position.*resize_features"):
        graft_tower(get_host("llava"), host_directory, tmp_path / "beit.ckpt", tmp_path / "graft", settings)
    settings = GraftSettings(tokens="resize_features")
    graft_tower(get_host("llava"), host_directory, tmp_path / "beit.ckpt", tmp_path / "graft", settings)
    load(tmp_path / "graft")


def test_the_frozen_tower_does_not_learn(host_directory: Path, donors, photographs: list[Path], tmp_path: Path) -> None:
    """Batch norms would, in training mode, without any gradient."""
    graft_tower(get_host("llava"), host_directory, donors("resnet"), tmp_path / "graft")
    loaded = load(tmp_path / "graft")
    tower, before = loaded.model.model.vision_tower, donor_model("resnet").state_dict()
    loaded.model.train()
    tower(torch.randn(2, 3, 128, 128))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.donor.state_dict().items())
    questions = [TrainingQuestion(path, QUESTION, "ABCD"[i % 4]) for i, path in enumerate(photographs[:4])]
    finetune(tmp_path / "graft", questions, tmp_path / "tuned", FinetuneSettings(steps=2, batch_size=2, rank=2))
    letter_scores(tmp_path / "tuned", open_image(photographs[0]))


@pytest.mark.parametrize(("host", "donor"), [("llava", "siglip"), ("llava", "convnext"), ("janus-pro", "convnext")])
def test_a_warm_graft(
    host: str,
    donor: str,
    hosts,
    donors,
    photographs: list[Path],
    tmp_path: Path,
) -> None:
    record = graft_tower(get_host(host), hosts(host), donors(donor), tmp_path / "graft", warm=photographs * 2)
    assert record.warm is not None
    assert record.warm.tokens == 12 * 16
    validate(tmp_path / "graft")
    letter_scores(tmp_path / "graft", open_image(photographs[0]))


@pytest.mark.parametrize("donor", ["siglip", "resnet"])
def test_the_dry_run_counts_its_bytes(donor: str, host_directory: Path, donors, tmp_path: Path) -> None:
    host = get_host("llava")
    plan = dry_run(host, host_directory, donors(donor))
    record = graft_tower(host, host_directory, donors(donor), tmp_path / "graft")
    written = read_stored(tmp_path / "graft" / TOWER_SHARD)[0]
    assert plan.arriving == sum(stored.nbytes for stored in written.values())
    assert plan.replaced == len(record.changed("replaced"))
    assert plan.dropped == len(record.changed("dropped"))


def test_the_report_names_the_tower_that_transformers_cannot_read(host_directory: Path, donors, tmp_path: Path) -> None:
    record = graft_tower(get_host("llava"), host_directory, donors("convnext"), tmp_path / "graft")
    said = swap.report(get_host("llava"), record, tmp_path / "graft")
    assert "LlavaForConditionalGeneration cannot read a timm_wrapper tower: load it with mllm_adapters.load" in said


def test_half_precision_hosts_get_half_precision_towers(host_directory: Path, donors, tmp_path: Path) -> None:
    """But for the counters of batch norms, which are whole numbers."""
    half = tmp_path / "half"
    LlavaForConditionalGeneration.from_pretrained(host_directory, dtype=torch.float16).save_pretrained(half)
    LlavaProcessor.from_pretrained(host_directory).save_pretrained(half)
    graft_tower(get_host("llava"), half, donors("resnet"), tmp_path / "graft")
    tensors = load(tmp_path / "graft", dtype="float16").model.model.vision_tower.state_dict()
    assert {t.dtype for name, t in tensors.items()} == {torch.float16, torch.int64}
