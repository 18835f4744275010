"""Med-Flamingo as published: the names that open_flamingo really saves, LLaMA and CLIP beside them, and what comes of the three."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_flamingo_numbers as reference
import pytest
import torch
from five_commands import five_commands
from safetensors.torch import load_file
from test_med_flamingo_model import STORED, tiny
from tiny_tokenizer import byte_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import load_tower, save_tower
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("med-flamingo")
BASE = reference.VOCABULARY - 3  # LLaMA's own tokens; Flamingo adds three
SAVED: dict[str, dict[str, list[int]]] = {rule: STORED[rule]["saved"] for rule in ("next", "previous")}


def saved_tensors(rule: str) -> dict[str, Tensor]:
    """What the open_flamingo of this rule saves; two names of a tensor share its memory, as in a real file."""
    made: dict[str, Tensor] = {}
    for name, shape in SAVED[rule].items():
        made.setdefault(reference.canonical(name), reference.values(reference.canonical(name), tuple(shape)))
    return {name: made[reference.canonical(name)] for name in SAVED[rule]}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LLaMA in two shards with its tokenizer, and a whole CLIP of which only one half is wanted."""
    root = tmp_path_factory.mktemp("parts")
    llama = LlamaForCausalLM(LlamaConfig(**reference.TEXT | {"vocab_size": BASE}))
    with torch.no_grad():
        for (
            name,
            parameter,
        ) in llama.named_parameters():  # the reference has three rows more where there is one for each token
            shape = (reference.VOCABULARY if len(parameter) == BASE else len(parameter), *parameter.shape[1:])
            parameter.copy_(reference.values(f"lang_encoder.{name}", shape)[: len(parameter)])
    llama.save_pretrained(root / "llama", max_shard_size="40KB")
    tokenizer().save_pretrained(root / "llama")
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    clip = CLIPModel(CLIPConfig(vision_config=reference.VISION, text_config=text, projection_dim=8))
    tower = {n: t for n, t in tiny().state_dict().items() if n.startswith("vision_tower.")}
    clip.vision_model.load_state_dict({n.removeprefix("vision_tower."): t for n, t in tower.items()})
    clip.save_pretrained(root / "clip")
    return {"llama": root / "llama", "clip": root / "clip"}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, BASE))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    def make(rule: str = "next", content: object = None) -> Path:
        directory = tmp_path / f"published-{rule}"
        directory.mkdir()
        torch.save(saved_tensors(rule) if content is None else content, directory / "model.pt")
        (directory / "README.md").write_text("as on the hub\n")
        return directory

    return make


@pytest.mark.parametrize("rule", ["next", "previous"])
def test_the_published_file_gives_open_flamingos_logits(
    rule: str, published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path
) -> None:
    """End to end: names and logits are those of the public package, only the directory is ours."""
    record = convert_host(HOST, published(rule), tmp_path / "host", parts=parts)
    assert (record.features, record.placeholders, record.loads_in) == (1, 1, "mllm_adapters.load")
    config = tmp_path / "host" / "config.json"
    content = json.loads(config.read_text())
    assert content["attend"] == "previous"
    config.write_text(json.dumps(content | {"attend": rule}))  # as the documentation says
    loaded = load(tmp_path / "host")
    expected, found = tiny().state_dict(), loaded.model.state_dict()
    assert found.keys() == expected.keys()
    head = "language_model.lm_head.weight"
    assert [n for n, t in expected.items() if n != head and not torch.equal(found[n], t)] == []
    assert torch.equal(found[head][:BASE], expected[head][:BASE])
    torch.testing.assert_close(found[head][BASE:], expected[head][:BASE].mean(0).expand(3, -1))
    with torch.no_grad():
        logits = loaded.model(**reference.inputs()).logits
    stored = torch.tensor(STORED[rule]["logits"])
    torch.testing.assert_close(logits[..., :BASE], stored[..., :BASE], atol=5e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.layout("med-flamingo", "`model.pt`")
def test_the_published_file_through_all_commands(
    published: Callable[..., Path],
    parts: dict[str, Path],
    make_tower: Callable[..., Path],
    cases: Path,
    photographs: list[Path],
    tmp_path: Path,
) -> None:
    """With a vocabulary that has words for the questions."""
    words = byte_tokenizer(unused_token="<unused>")
    text = reference.TEXT | {"vocab_size": len(words), "max_position_embeddings": 1024}
    LlamaForCausalLM(LlamaConfig(**text)).save_pretrained(tmp_path / "llama")
    words.save_pretrained(tmp_path / "llama")
    saved = saved_tensors("previous")
    table = "lang_encoder.model.embed_tokens.weight"
    # the end of a chunk and the image are added; unlike LLaMA's, these words have a token for padding
    saved[table] = reference.values(table, (len(words) + 2, reference.WIDTH))
    encoder, named = make_tower(size=32, hidden_size=24), {"llama": tmp_path / "llama", "clip": parts["clip"]}
    source = published("previous", saved)
    done = five_commands("med-flamingo", source, encoder, cases, photographs[0], tmp_path, named)
    assert torch.equal(
        load(done.converted).model.state_dict()["language_model.model.embed_tokens.weight"], saved[table]
    )


@pytest.mark.parametrize("written", ["", {"content": "", "lstrip": False}, None])
def test_a_llama_whose_special_tokens_are_empty_texts(
    written: object, published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path
) -> None:
    """As the first conversions of LLaMA-1 have them; transformers recurses on them until the stack ends."""
    llama = Path(shutil.copytree(parts["llama"], tmp_path / "llama"))
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), written)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((llama / name).read_text()) if (llama / name).is_file() else {}
        (llama / name).write_text(json.dumps(content | named))
    convert_host(HOST, published(), tmp_path / "host", parts=parts | {"llama": llama})
    loaded = load(tmp_path / "host")
    tokens = loaded.processor.tokenizer
    assert len(tokens) == reference.VOCABULARY
    if written is not None:  # null says that there is none, an empty text says nothing
        assert (tokens.bos_token, tokens.eos_token, tokens.unk_token) == ("<s>", "</s>", "<unk>")
        assert loaded.model.generation_config.eos_token_id == [2, BASE]


def test_its_tokenizer_and_where_it_stops(
    published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path
) -> None:
    convert_host(HOST, published(), tmp_path / "host", parts=parts)
    loaded = load(tmp_path / "host")
    tokens = loaded.processor.tokenizer
    assert tokens.convert_tokens_to_ids(["<|endofchunk|>", "<image>", "<PAD>"]) == [BASE, BASE + 1, BASE + 2]
    assert tokens("<image>w3 w4<|endofchunk|>", add_special_tokens=False)["input_ids"] == [BASE + 1, 3, 4, BASE]
    assert loaded.model.generation_config.eos_token_id == [2, BASE]
    assert loaded.model.config.image_token_id == reference.IMAGE
    assert tokens.pad_token == "<PAD>"


def test_a_graft_in_every_tensor(
    published: Callable[..., Path], parts: dict[str, Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    donor, source = make_tower(size=24, num_hidden_layers=3), published()
    before = {
        path: path.read_bytes() for path in [*source.iterdir(), *parts["llama"].iterdir(), *parts["clip"].iterdir()]
    }
    record = graft_tower(HOST, source, donor, tmp_path / "graft", parts=parts)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert validate(tmp_path / "graft") == record
    assert not record.changed("dropped")
    assert all(change.name.startswith("vision_tower.") for change in record.tensors)
    convert_host(HOST, source, tmp_path / "host", parts=parts)
    grafted, host = load(tmp_path / "graft").model.state_dict(), load(tmp_path / "host").model.state_dict()
    expected = {n: t for n, t in host.items() if not n.startswith("vision_tower.")}
    expected |= {f"vision_tower.{n}": t for n, t in load_tower(donor)[0].state_dict().items()}
    assert grafted.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(grafted[name], expected[name])] == []
    on_disk = [name for path in (tmp_path / "graft").glob("*.safetensors") for name in load_file(path)]
    assert sorted(on_disk) == sorted(expected)  # each once: nothing of the old tower is left in any shard
    assert (tmp_path / "graft" / "README.md").is_file()


@pytest.mark.slow
def test_its_own_tower_changes_no_logit(published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path) -> None:
    own, source = tmp_path / "own.ckpt", published()
    save_tower(own, tiny().vision_tower, Preprocessing(size=16, resize="crop"))
    record = graft_tower(HOST, source, own, tmp_path / "graft", parts=parts)
    assert not record.connector_needs_training
    convert_host(HOST, source, tmp_path / "host", parts=parts)
    again = graft_tower(HOST, tmp_path / "host", own, tmp_path / "again")  # a converted host is a host
    assert not again.connector_needs_training
    with torch.no_grad():
        found = [load(tmp_path / name).model(**reference.inputs()).logits for name in ("host", "graft", "again")]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    save_tower(own, tiny().vision_tower, Preprocessing(size=16, resize="pad"))  # the same weights, fed otherwise
    assert graft_tower(HOST, source, own, tmp_path / "padded", parts=parts).connector_needs_training


def test_wrappers_old_shards_and_tables_that_are_computed(
    published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path
) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in saved_tensors("next").items()}
    table = "module.lang_encoder.model.layers.0.decoder_layer.self_attn.rotary_emb.inv_freq"
    source = published(content={"epoch": 3, "model_state_dict": tensors | {table: torch.ones(8)}})
    llama = tmp_path / "llama"
    llama.mkdir()
    halves = {name: t.half() for path in parts["llama"].glob("*.safetensors") for name, t in load_file(path).items()}
    torch.save(halves | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, llama / "pytorch_model.bin")
    config = json.loads((parts["llama"] / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    tokenizer().save_pretrained(llama)
    convert_host(HOST, source, tmp_path / "host", parts=parts | {"llama": llama})
    state = load(tmp_path / "host", dtype="float16").model.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    expected = tiny().state_dict()
    for name in ("perceiver.latents", "language_model.model.layers.0.mlp.up_proj.weight"):
        assert torch.equal(state[name], expected[name].half())


def test_another_width_makes_perceiver_and_its_readers_new(
    published: Callable[..., Path], parts: dict[str, Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    record = graft_tower(HOST, published(), make_tower(hidden_size=24), tmp_path / "graft", parts=parts)
    new = {change.name for change in record.changed("new")}
    readers = {f"language_model.model.layers.{i}.gated_cross_attn_layer.attn.to_kv.weight" for i in (1, 3)}
    assert {name for name in new if not name.startswith("perceiver.")} == readers
    state = load(tmp_path / "graft").model.state_dict()
    assert new - readers == {name for name in state if name.startswith("perceiver.")}
    assert bool((state["perceiver.norm.weight"] == 1).all())
    assert bool((state["perceiver.layers.0.1.0.bias"] == 0).all())
    assert state["perceiver.latents"].shape == (64, 24)
    assert state["language_model.model.layers.1.gated_cross_attn_layer.attn_gate"].item() != 0


def test_a_new_connector_starts_with_closed_gates(
    published: Callable[..., Path], parts: dict[str, Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    settings = GraftSettings(connector="new")
    record = graft_tower(HOST, published(), make_tower(), tmp_path / "graft", settings, parts=parts)
    state = load(tmp_path / "graft").model.state_dict()
    connector = {name for name in state if "perceiver." in name or "gated_cross_attn_layer." in name}
    assert {change.name for change in record.changed("new")} == connector
    assert all(tensor.item() == 0 for name, tensor in state.items() if name.endswith("_gate"))


def test_what_is_missing_surplus_or_contradictory_is_named(
    published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path
) -> None:
    def fails(error: type[Exception], match: str, content: object = None, given: dict[str, Path] = parts) -> None:
        source = tmp_path / "case"
        source.mkdir(exist_ok=True)
        torch.save(saved_tensors("next") if content is None else content, source / "model.pt")
        with pytest.raises(error, match=match):
            convert_host(HOST, source, tmp_path / "host", parts=given)
        assert not (tmp_path / "host").exists()

    whole = saved_tensors("next")
    gate = "lang_encoder.gated_cross_attn_layers.3.attn_gate"
    alias = "lang_encoder.model.layers.3.gated_cross_attn_layer.attn_gate"
    fails(HostError, "add --part llama=huggyllama/llama-7b, or a folder", given={"clip": parts["clip"]})
    fails(HostError, "has no part vision", given=parts | {"vision": parts["clip"]})
    fails(
        HostError,
        "is a 'clip' checkpoint; part llama must be huggyllama",
        given={"clip": parts["clip"], "llama": parts["clip"]},
    )
    no_gate = {name: tensor for name, tensor in whole.items() if name not in (gate, alias)}
    fails(FormatError, "layers.3.gated_cross_attn_layer.attn_gate is missing", no_gate)
    fails(FormatError, "perceiver.norm.bias is missing", {n: t for n, t in whole.items() if n != "perceiver.norm.bias"})
    fails(FormatError, "does not have: adapter.weight", whole | {"adapter.weight": torch.ones(2)})
    fails(FormatError, "perceiver.norm2.bias is surplus", whole | {"perceiver.norm2.bias": torch.ones(2)})
    fails(FormatError, "differs from the same tensor under its other name", whole | {gate: torch.ones(1)})
    fails(FormatError, r"perceiver.norm.bias is \(3,\)", whole | {"perceiver.norm.bias": torch.ones(3)})
    longer = reference.values("rows", (reference.VOCABULARY + 1, reference.WIDTH))
    fails(HostError, "has 24, model.pt embeds 25", whole | {"lang_encoder.model.embed_tokens.weight": longer})
    fails(FormatError, "no Flamingo in it", {n: t for n, t in whole.items() if "gated" not in n})
    no_latents = {name: tensor for name, tensor in whole.items() if name != "perceiver.latents"}
    fails(FormatError, "not a whole Flamingo: 'perceiver.latents' is missing", no_latents)
    only_alias = {n: t for n, t in whole.items() if ".gated_cross_attn_layer." not in n}
    (tmp_path / "case" / "other.pt").write_bytes(b"")
    fails(FormatError, "found: model.pt, other.pt")
    (tmp_path / "case" / "other.pt").unlink()
    torch.save(only_alias, tmp_path / "case" / "model.pt")
    convert_host(HOST, tmp_path / "case", tmp_path / "host", parts=parts)  # one of the two names is enough


def test_a_damaged_file(published: Callable[..., Path], parts: dict[str, Path], tmp_path: Path) -> None:
    source = published()
    content = (source / "model.pt").read_bytes()
    (source / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match=r"model\.pt"):
        convert_host(HOST, source, tmp_path / "host", parts=parts)
