"""Med-Flamingo's native model: equal to open_flamingo, and with a cache equal to itself without."""

import importlib.util
import json
from pathlib import Path

import open_flamingo_numbers as reference
import pytest
import torch
from torch import Tensor

from mllm_adapters.hosts.med_flamingo.model import MedFlamingoConfig, MedFlamingoForConditionalGeneration, which_image

STORED = json.loads(reference.STORED.read_text())


def tiny(attend: str = "previous") -> MedFlamingoForConditionalGeneration:
    """The model whose logits are stored, with the same weights."""
    config = MedFlamingoConfig(
        vision_config=reference.VISION,
        text_config=reference.TEXT | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        image_token_id=reference.IMAGE,
        cross_attn_every_n_layers=reference.EVERY,
        attend=attend,
    )
    model = MedFlamingoForConditionalGeneration(config).eval()
    state = model.state_dict()
    model.load_state_dict({name: weight(name, tensor) for name, tensor in state.items()})
    return model


def weight(name: str, tensor: Tensor) -> Tensor:
    """The reference's tensor that ours corresponds to."""
    shape = tuple(tensor.shape)
    if not name.startswith("vision_tower."):
        return reference.values(name.replace("language_model.", "lang_encoder."), shape)
    name = name.removeprefix("vision_tower.")
    for ours, theirs in OPEN_CLIP.items():
        name = name.replace(ours, theirs)
    for part, projection in enumerate(("q_proj", "k_proj", "v_proj")):
        if f"attn.{projection}." in name:
            joined = name.replace(f"{projection}.", "in_proj_")
            return reference.values(f"vision_encoder.{joined}", (3 * shape[0], *shape[1:])).chunk(3)[part]
    return reference.values(f"vision_encoder.{name}", shape)


OPEN_CLIP = {
    "embeddings.patch_embedding": "conv1",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


@pytest.mark.parametrize("attend", ["previous", "next"])
@torch.no_grad()
def test_logits_are_those_that_open_flamingo_gave(attend: str) -> None:
    stored = torch.tensor(STORED[attend]["logits"])
    torch.testing.assert_close(tiny(attend)(**reference.inputs()).logits, stored, atol=5e-6, rtol=0)
    other = torch.tensor(STORED[{"previous": "next", "next": "previous"}[attend]]["logits"])
    assert (other - stored).abs().max() > 0.1  # so that the comparison tells the rules apart


@pytest.mark.skipif(
    importlib.util.find_spec("open_flamingo") is None,
    reason="open_flamingo is not installed (open_flamingo_numbers.py says how); stored numbers stand in",
)
@torch.no_grad()
def test_logits_are_those_that_the_installed_open_flamingo_gives() -> None:
    theirs = reference.reference_logits()
    torch.testing.assert_close(tiny(reference.rule())(**reference.inputs()).logits, theirs, atol=2e-6, rtol=0)


def test_which_image_a_token_looks_at() -> None:
    marks = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 0]]) == 1
    assert which_image(marks, 2, "previous").tolist() == [[-1, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert which_image(marks, 2, "next").tolist() == [[0, 0, 1, 1, 1, -1], [0, 1, 1, -1, -1, -1]]
    later = torch.zeros(2, 1, dtype=torch.bool)  # a generated token, the images lie in the cache
    assert which_image(later, 2, "previous").tolist() == [[1], [1]]
    assert which_image(later, 2, "next").tolist() == [[-1], [-1]]


@pytest.mark.parametrize("attend", ["previous", "next"])
@torch.no_grad()
def test_with_a_cache_the_logits_are_the_same(attend: str) -> None:
    model, given = tiny(attend), reference.inputs()
    ids, mask = given["input_ids"], given["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    whole = model(**given, position_ids=positions).logits
    latents = model.get_image_features(given["pixel_values"], rows=2)
    first = model(
        input_ids=ids[:, :7], attention_mask=mask[:, :7], position_ids=positions[:, :7], latents=latents, use_cache=True
    )
    found, cache = [first.logits], first.past_key_values
    # the last image of the second row is the last token of the first part in the first row, and everything after is text
    for i in range(7, 10):
        step = model(
            input_ids=ids[:, i : i + 1],
            attention_mask=mask[:, : i + 1],
            position_ids=positions[:, i : i + 1],
            past_key_values=cache,
            latents=latents,
            use_cache=True,
        )
        found.append(step.logits)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=0)  # other sums, other roundings


@pytest.mark.slow
@pytest.mark.parametrize("attend", ["previous", "next"])
def test_generation_with_and_without_a_cache(attend: str) -> None:
    model, given = tiny(attend), reference.inputs()
    seen = []
    model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached = model.generate(**given, **options)
    assert seen == [1]  # the tower ran once, not once a token
    assert torch.equal(cached, model.generate(**given, **options, use_cache=False))
    beams = model.generate(**given, **options, num_beams=3)
    assert torch.equal(beams, model.generate(**given, **options, num_beams=3, use_cache=False))
    naive = given["input_ids"]
    for _ in range(6):
        mask = torch.cat((given["attention_mask"], torch.ones(2, naive.shape[1] - 10, dtype=torch.long)), dim=1)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = model(naive, given["pixel_values"], mask, positions).logits
        naive = torch.cat((naive, logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(cached, naive)


@torch.no_grad()
def test_a_row_is_what_it_is_alone() -> None:
    model, given = tiny(), reference.inputs()
    mask = given["attention_mask"]
    together = model(**given, position_ids=(mask.cumsum(-1) - 1).clamp_min(0)).logits[1, 2:]
    alone = model(input_ids=given["input_ids"][1:, 2:], pixel_values=given["pixel_values"][2:]).logits[0]
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


@torch.no_grad()
def test_embeddings_in_place_of_ids_and_the_last_logits_only() -> None:
    model, given = tiny(), reference.inputs()
    whole = model(**given).logits
    embeddings = model.get_input_embeddings()(given.pop("input_ids"))
    assert torch.equal(model(inputs_embeds=embeddings, **given).logits, whole)
    assert model(inputs_embeds=embeddings, **given, logits_to_keep=2).logits.shape == (2, 2, reference.VOCABULARY)


@torch.no_grad()
def test_text_without_an_image_sees_nothing() -> None:
    model = tiny()
    ids = torch.tensor([[1, 5, 6, 7]])
    no_image = model(input_ids=ids).logits
    behind = model(
        input_ids=torch.cat((ids, torch.tensor([[reference.IMAGE]])), 1), pixel_values=torch.ones(1, 3, 16, 16)
    )
    torch.testing.assert_close(behind.logits[:, :4], no_image, atol=2e-6, rtol=0)


def test_images_and_their_tokens_must_be_equally_many() -> None:
    model, given = tiny(), reference.inputs()
    with pytest.raises(ValueError, match=r"1 images a text, but \[2, 2\]"):
        model(given["input_ids"], given["pixel_values"][:2])
    with pytest.raises(ValueError, match="3 images for 2 texts"):
        model(given["input_ids"], given["pixel_values"][:3])
    with pytest.raises(ValueError, match="0 images a text"):
        model(given["input_ids"])
    with pytest.raises(ValueError, match="neither input_ids"):
        model(pixel_values=given["pixel_values"])


def gradients(model: MedFlamingoForConditionalGeneration) -> dict[str, Tensor]:
    given = reference.inputs()
    model.zero_grad()
    model(
        **given, labels=given["input_ids"].masked_fill(given["attention_mask"] == 0, -100), use_cache=False
    ).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_reach_all_and_checkpointing_changes_none() -> None:
    model = tiny().train()
    plain = gradients(model)
    unused = {"vision_tower.post_layernorm.weight", "vision_tower.post_layernorm.bias"}
    assert dict(model.named_parameters()).keys() - plain.keys() == unused
    assert all(gradient.abs().max() > 0 for name, gradient in plain.items() if "k_proj.bias" not in name)
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients(model), plain)


def test_new_gates_are_closed() -> None:
    model = MedFlamingoForConditionalGeneration(tiny().config).train()
    found = gradients(model)
    assert {name for name, p in model.named_parameters() if name.endswith("_gate") and p.item() == 0} == {
        f"language_model.model.layers.{i}.gated_cross_attn_layer.{gate}"
        for i in (1, 3)
        for gate in ("attn_gate", "ff_gate")
    }
    assert found["perceiver.latents"].abs().max() == 0
    assert found["language_model.model.layers.1.gated_cross_attn_layer.attn_gate"].abs().max() > 0


def test_the_round_trip_through_a_directory(tmp_path: Path) -> None:
    model = tiny("next")
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    again, info = MedFlamingoForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert again.config.attend == "next"
    with torch.no_grad():
        assert torch.equal(again(**reference.inputs()).logits, model(**reference.inputs()).logits)
