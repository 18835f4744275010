"""Qwen-VL from its published files: equal to the published code in numbers, and to the published tensors byte by byte."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from five_commands import five_commands
from qwen_vl_numbers import AFTER, BEFORE, CONFIG, IMAGE_START, PLACES, STORED, photograph
from qwen_vl_published import save_published, write_byte_pairs
from safetensors.torch import load_file
from torch import Tensor

from mgll.formats import FormatError
from mgll.tower.file import load_tower
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft.source import open_source
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.qwen_vl.model import sincos_positions
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("qwen-vl")
NUMBERS = json.loads(STORED.read_text())
WITH_IMAGE = torch.tensor([[*BEFORE, IMAGE_START, *[IMAGE_START + 2] * PLACES, IMAGE_START + 1, *AFTER]])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hub") / "Qwen-VL-Chat"
    directory.mkdir()
    save_published(directory)
    return directory


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedHost:
    out = tmp_path_factory.mktemp("converted") / "qwen-vl"
    convert_host(HOST, published, out)
    return load(out)


def pixels(loaded: LoadedHost) -> Tensor:
    return loaded.processor.image_processor(images=[photograph()], return_tensors="pt")["pixel_values"]


@torch.inference_mode()
def test_the_numbers_of_the_published_code(converted: LoadedHost) -> None:
    model, close = converted.model, {"rtol": 0, "atol": 1e-5}
    features = model.visual(pixels(converted))[0]
    torch.testing.assert_close(features[::51, ::16], torch.tensor(NUMBERS["features"]), **close)
    logits = model(WITH_IMAGE, pixel_values=pixels(converted)).logits[0]
    torch.testing.assert_close(logits[[2, 3, 100, 259, 260, 263], ::8], torch.tensor(NUMBERS["logits"]), **close)
    text = model(torch.tensor([BEFORE + AFTER])).logits[0]
    torch.testing.assert_close(text[::3, ::8], torch.tensor(NUMBERS["text_logits"]), **close)
    torch.testing.assert_close(sincos_positions(256, 16)[::37, ::11], torch.tensor(NUMBERS["sincos"]), **close)


@pytest.mark.layout("qwen-vl", "`qwen`")
@pytest.mark.slow
def test_the_published_layout_through_all_commands(
    published: Path, make_tower: Callable[..., Path], cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    five_commands("qwen-vl", published, make_tower(size=32, hidden_size=24), cases, photographs[0], tmp_path)


def expected_tensors(old: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors as the model in memory must have them, written down anew rather than by the code's own table."""
    decoder, found = "language_model.model.", {}
    for i in range(CONFIG["num_hidden_layers"]):
        here, there = f"transformer.h.{i}.", f"{decoder}layers.{i}."
        for part in ("weight", "bias"):
            q, k, v = old[f"{here}attn.c_attn.{part}"].reshape(3, 256, -1)
            shaped = (lambda x: x.squeeze(-1)) if part == "bias" else (lambda x: x)
            found |= {f"{there}self_attn.{n}_proj.{part}": shaped(x) for n, x in zip("qkv", (q, k, v), strict=True)}
        found[f"{there}self_attn.o_proj.weight"] = old[f"{here}attn.c_proj.weight"]
        found[f"{there}mlp.gate_proj.weight"] = old[f"{here}mlp.w2.weight"]
        found[f"{there}mlp.up_proj.weight"] = old[f"{here}mlp.w1.weight"]
        found[f"{there}mlp.down_proj.weight"] = old[f"{here}mlp.c_proj.weight"]
        found[f"{there}input_layernorm.weight"] = old[f"{here}ln_1.weight"]
        found[f"{there}post_attention_layernorm.weight"] = old[f"{here}ln_2.weight"]
    found[f"{decoder}embed_tokens.weight"] = old["transformer.wte.weight"]
    found[f"{decoder}norm.weight"] = old["transformer.ln_f.weight"]
    found["language_model.lm_head.weight"] = old["lm_head.weight"]
    for name, tensor in old.items():
        inside = name.removeprefix("transformer.visual.")
        if inside == name:
            continue
        if inside.startswith(("attn_pool.", "ln_post.", "proj")):
            found[f"visual.resampler.{inside.removeprefix('attn_pool.')}"] = tensor
        else:
            found[f"visual.tower.{inside.replace('transformer.resblocks.', 'blocks.')}"] = tensor
    return found


def test_every_published_tensor_is_in_place_after_conversion_and_after_a_graft(
    tmp_path: Path, make_tower: Callable[..., Path]
) -> None:
    hub, out = tmp_path / "hub", tmp_path / "converted"
    hub.mkdir()
    expected = expected_tensors(save_published(hub, torch.bfloat16))
    before = {path.name: path.read_bytes() for path in hub.iterdir()}
    convert_host(HOST, hub, out)
    found = load(out).model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []

    encoder = make_tower(size=32, hidden_size=24)
    record = graft_tower(HOST, hub, encoder, tmp_path / "graft")
    assert validate(tmp_path / "graft") == record
    assert [change.name for change in record.changed("new")] == ["visual.resampler.kv_proj.weight"]
    loaded = load(tmp_path / "graft")
    assert loaded.model.dtype == torch.bfloat16
    donor = {f"visual.tower.donor.{name}": t.bfloat16() for name, t in load_tower(encoder)[0].state_dict().items()}
    kept = {name: t for name, t in expected.items() if "visual.tower." not in name and "kv_proj" not in name}
    found = loaded.model.state_dict()
    assert found.keys() == kept.keys() | donor.keys() | {"visual.resampler.kv_proj.weight"}
    assert [name for name, tensor in (kept | donor).items() if not torch.equal(found[name], tensor)] == []
    assert found["visual.resampler.kv_proj.weight"].shape == (256, 24)
    for path in (tmp_path / "graft").glob("*.safetensors"):
        assert not [name for name in load_file(path) if name.startswith("visual.tower.") and "donor" not in name]
    assert {path.name: path.read_bytes() for path in hub.iterdir()} == before


def test_a_new_connector_is_new_but_for_its_fixed_positions(
    published: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    record = graft_tower(
        HOST, published, make_tower(size=32, hidden_size=24), tmp_path / "graft", GraftSettings(connector="new")
    )
    inside = {change.name.removeprefix("visual.resampler.") for change in record.changed("new")}
    assert {"query", "kv_proj.weight", "attn.in_proj_weight", "ln_q.bias", "ln_post.weight", "proj"} <= inside
    assert "pos_embed" not in inside
    resampler = load(tmp_path / "graft").model.visual.resampler
    assert torch.equal(resampler.ln_kv.weight, torch.ones(256))
    assert torch.equal(resampler.ln_kv.bias, torch.zeros(256))
    assert float(resampler.proj.detach().std()) > 0.01


def test_the_files_say_nothing_of_remote_code(converted: LoadedHost) -> None:
    for path in converted.directory.glob("*.json"):
        assert "auto_map" not in path.read_text()
        assert "QWenTokenizer" not in path.read_text()
    assert converted.model.config.text_config.intermediate_size == 48
    assert converted.model.generation_config.eos_token_id == [268, 266]


def test_the_prompt_holds_the_image_between_its_marks(converted: LoadedHost) -> None:
    tokenizer = converted.processor.tokenizer
    encoded = converted.processor(images=[photograph()], text=[HOST.prompt("Why?")], return_tensors="pt")
    ids = encoded["input_ids"][0].tolist()
    start = ids.index(IMAGE_START)
    assert ids[start + 1 : start + 1 + PLACES] == [IMAGE_START + 2] * PLACES
    assert ids[start + 1 + PLACES] == IMAGE_START + 1
    assert tokenizer.decode(ids[:start]).endswith("<|im_start|>user\nPicture 1: ")
    assert tokenizer.decode(ids[start + 2 + PLACES :]) == "\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>"


@torch.inference_mode()
def test_cached_generation_is_uncached_generation(converted: LoadedHost) -> None:
    model, given = converted.model, {"pixel_values": pixels(converted)}
    ids = WITH_IMAGE
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, **given)
    for _ in range(4):
        ids = torch.cat((ids, model(ids, **given).logits[:, -1:].argmax(-1)), dim=1)
    assert said.tolist() == ids.tolist()


@torch.inference_mode()
def test_a_row_padded_on_the_left_is_answered_like_a_lonely_one(converted: LoadedHost) -> None:
    inputs = converted.processor(
        images=[photograph()] * 2,
        text=["<image>a long question", "<image>b"],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    together = converted.model(**inputs, position_ids=positions).logits[1, -1]
    alone = converted.processor(images=[photograph()], text=["<image>b"], return_tensors="pt")
    torch.testing.assert_close(together, converted.model(**alone).logits[0, -1], rtol=0, atol=1e-5)


def test_gradients_reach_every_part(converted: LoadedHost) -> None:
    model = converted.model
    model(WITH_IMAGE, pixel_values=pixels(converted), labels=WITH_IMAGE).loss.backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    model.zero_grad()
    assert without == []


def test_images_and_places_must_agree(converted: LoadedHost) -> None:
    with pytest.raises(ValueError, match="256 image tokens in the text, 2 images of 256 features"):
        converted.model(WITH_IMAGE, pixel_values=pixels(converted).repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match="images need input_ids"):
        converted.model(inputs_embeds=torch.zeros(1, 2, 256), pixel_values=pixels(converted))
    with pytest.raises(ValueError, match="2049 tokens, 2048 is the most"):
        converted.model(torch.zeros(1, 2049, dtype=torch.long))
    with pytest.raises(ValueError, match="3 tokens do not form a square"):
        converted.model.visual.resampler(torch.zeros(1, 3, 32))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    directory = tmp_path / "hub"
    directory.mkdir()
    save_published(directory)
    return directory


def change_shard(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = directory / "pytorch_model-00002-of-00003.bin"
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_half_a_checkpoint_is_refused_by_name(hub: Path) -> None:
    def forget_in_index(name: str) -> None:
        path = hub / "pytorch_model.bin.index.json"
        index = json.loads(path.read_text())
        del index["weight_map"][name]
        path.write_text(json.dumps(index))

    name = "transformer.visual.transformer.resblocks.0.mlp.c_fc.bias"
    change_shard(hub, lambda tensors: tensors.pop(name))
    with pytest.raises(FormatError, match="resblocks"):
        open_source(HOST, hub)
    forget_in_index(name)
    with pytest.raises(FormatError, match=r"visual\.tower\.blocks\.0\.mlp\.c_fc\.bias is missing"):
        open_source(HOST, hub)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer.h.1.attn.c_attn.weight": (770, 256)}, r"layers\.1\.self_attn\.v_proj\.weight is \(258, 256\)"),
        (
            {"transformer.visual.ln_pre.weight": (7,)},
            r"visual\.tower\.ln_pre\.weight is \(7,\), config.json says \(32,\)",
        ),
        ({"transformer.h.1.attn.rotten": (2,)}, r"does not have: transformer\.h\.1\.attn\.rotten"),
    ],
)
def test_surplus_and_misshapen_tensors_are_refused_by_name(hub: Path, change: dict, message: str) -> None:
    change_shard(hub, lambda tensors: tensors.update({name: torch.zeros(shape) for name, shape in change.items()}))
    with pytest.raises(FormatError, match=message):
        open_source(HOST, hub)


def test_tables_that_are_computed_are_left_out(hub: Path) -> None:
    name = "transformer.h.1.attn.rotary_emb.inv_freq"
    change_shard(hub, lambda tensors: tensors.update({name: torch.zeros(4)}))
    assert not [name for name in open_source(HOST, hub).tensors if "inv_freq" in name]


def test_what_is_no_qwen_vl_is_refused(hub: Path) -> None:
    path = hub / "qwen.tiktoken"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-1]))
    with pytest.raises(FormatError, match=r"qwen\.tiktoken: puts images at 481, config\.json at 482"):
        open_source(HOST, hub)
    path.unlink()
    with pytest.raises(FormatError, match=r"no qwen\.tiktoken"):
        open_source(HOST, hub)
    write_byte_pairs(hub)
    config = json.loads((hub / "config.json").read_text())
    del config["visual"]
    (hub / "config.json").write_text(json.dumps(config))
    with pytest.raises(HostError, match="a Qwen without a vision tower"):
        open_source(HOST, hub)
    change_config(hub, model_type="llava")
    with pytest.raises(HostError, match="'llava' checkpoint"):
        open_source(HOST, hub)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": "pooled"}, "256 equal tokens"),
        ({"feature_select": "full"}, "with the class token they form none"),
        ({"feature_layer": -9}, "feature layer -9 does not exist"),
    ],
)
def test_what_the_resampler_cannot_take_is_refused(
    settings: dict, message: str, published: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(HostError, match=message):
        graft_tower(HOST, published, make_tower(size=32), tmp_path / "graft", GraftSettings(**settings))
    assert not (tmp_path / "graft").exists()
