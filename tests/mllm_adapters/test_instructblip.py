"""InstructBLIP with Vicuna and with T5: padding, the Q-Former's text, the decoder's slot, and every tensor of a graft."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_inputs import ImageInputs, text_inputs
from safetensors.torch import load_file, save_file
from scored_question import last_logits
from tiny.instructblip import QUERIES, save_instructblip
from transformers import InstructBlipForConditionalGeneration, InstructBlipProcessor

from mgll.images.preprocessing import open_image, preprocess
from mgll.tower.file import load_tower, read_header
from mllm_adapters.checkpoints.json_files import json_files
from mllm_adapters.contract.terms import GraftSettings, HostError, Source
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import lay_out_alike, load
from mllm_adapters.loading.lora import add_lora
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

HOST = get_host("instructblip")
FLAVOURS = ["vicuna", "t5"]
SHORT, LONG = (
    "What is it?\nA. a\nB. b\nC. c\nD. d",
    "Which of these does the photograph show?\nA. one\nB. two\nC. three\nD. four",
)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(flavour: str) -> Path:
        if flavour not in made:
            made[flavour] = tmp_path_factory.mktemp("instructblip") / flavour
            save_instructblip(made[flavour], t5=flavour == "t5")
        return made[flavour]

    return make


@pytest.fixture(scope="session")
def donor(make_tower: Callable[..., Path]) -> Path:
    return make_tower(size=32, hidden_size=24)


@pytest.fixture(scope="session")
def grafted(host, donor: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[str, str], Path] = {}

    def make(flavour: str, tokens: str = "native") -> Path:
        key = (flavour, tokens)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("graft") / f"{flavour}-{tokens}"
            graft_tower(HOST, host(flavour), donor, made[key], GraftSettings(tokens=tokens))
        return made[key]

    return make


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_prompt_is_scored_alike_alone_and_beside_a_longer_one(flavour: str, grafted, photographs: list[Path]) -> None:
    loaded = load(grafted(flavour))
    images, prompts = [open_image(path) for path in photographs[:2]], [HOST.prompt(SHORT), HOST.prompt(LONG)]
    together = last_logits(loaded, images, prompts)
    alone = torch.cat([last_logits(loaded, [image], [text]) for image, text in zip(images, prompts, strict=True)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.05


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_training_reads_the_slot_that_scoring_reads(flavour: str, grafted, photographs: list[Path]) -> None:
    directory = grafted(flavour)
    questions = [TrainingQuestion(photographs[0], SHORT, "B"), TrainingQuestion(photographs[1], LONG, "D")]
    loaded = load(directory)
    images, inputs = ImageInputs(loaded, photographs), text_inputs(loaded, questions)
    asked = loaded.processor.qformer_tokenizer(
        [HOST.prompt(q.question) for q in questions], padding=True, return_tensors="pt"
    )
    for name in ("input_ids", "attention_mask"):  # exactly the prompt, padded behind, whatever the answer
        assert torch.equal(inputs[f"qformer_{name}"], asked[name])
    letters = images.preparation.texts.letters(SHORT)
    eos = loaded.processor.tokenizer.eos_token_id
    answered = inputs["decoder_input_ids" if flavour == "t5" else "input_ids"]
    assert answered[:, -2:].tolist() == [[letters[1], eos], [letters[3], eos]]
    assert ("decoder_input_ids" in inputs) == (flavour == "t5")
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == 2 * QUERIES
    options = {} if flavour == "t5" else {"position_ids": (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)}
    with torch.inference_mode():
        logits = loaded.model(**inputs, **images.batch([q.image for q in questions]), **options, use_cache=False).logits
    scored = last_logits(
        load(directory), [open_image(q.image) for q in questions], [HOST.prompt(q.question) for q in questions]
    )
    torch.testing.assert_close(logits[:, -3], scored, atol=2e-5, rtol=0)


@pytest.mark.slow
def test_t5_is_trained_saved_and_reloaded(grafted, photographs: list[Path], tmp_path: Path) -> None:
    base, out = grafted("t5"), tmp_path / "tuned"
    questions = [TrainingQuestion(photographs[i], (SHORT, LONG)[i % 2], "ABCD"[i]) for i in range(4)]
    settings = FinetuneSettings(rank=2, steps=3, batch_size=2, learning_rate=0.05, connector_learning_rate=0.05)
    finetune(base, questions, out, settings)
    before, after = dict(load(base).model.named_parameters()), load(out).model
    changed = {key.split(".")[0] for key, tensor in after.named_parameters() if "lora_B" in key and bool(tensor.any())}
    for key, tensor in after.named_parameters():
        plain = key.replace(".base_layer", "").replace(".modules_to_save.default", "")
        if plain in before and ".original_module." not in key and not torch.equal(tensor, before[plain]):
            changed.add(plain.split(".")[0])
    assert changed == {"language_model", "qformer", "language_projection"}
    asked = [open_image(photographs[0])], [HOST.prompt(SHORT)]  # in a fresh process: `test_hosts.py`
    first, second = (last_logits(load(out), *asked) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, last_logits(load(base), *asked))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_lora_reaches_every_map_of_the_language_model_and_nothing_else(flavour: str, host) -> None:
    model = add_lora(load(host(flavour)).model, HOST, FinetuneSettings(rank=2))
    adapted = [key.split(".base_model.model.")[-1] for key, _ in model.named_parameters() if "lora_A" in key]
    # Llama: 7 a layer; T5: 4 + 3 a layer of the encoder, 4 + 4 + 3 a layer of the decoder; two layers each
    assert len(adapted) == {"vicuna": 14, "t5": 36}[flavour]
    assert all("language_model." in key for key in adapted)


@pytest.mark.parametrize(
    ("tokens", "seen"), [("native", 17), ("resize_features", 17), ("resize_posemb", 17), ("pooled", 1)]
)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_policies_change_what_the_qformer_sees_and_not_the_language_model(
    flavour: str, tokens: str, seen: int, grafted, photographs: list[Path]
) -> None:
    record = validate(grafted(flavour, tokens))
    assert (record.features, record.placeholders) == (QUERIES, QUERIES)
    loaded = load(grafted(flavour, tokens))
    inputs = loaded.processor(images=[open_image(photographs[0])], text=[HOST.prompt(SHORT)], return_tensors="pt")
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == QUERIES
    with torch.inference_mode():
        assert loaded.model.vision_model(inputs["pixel_values"]).last_hidden_state.shape == (1, seen, 24)
        answer = loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] <= 3 + (1 if flavour == "t5" else inputs["input_ids"].shape[1])


def test_a_donor_with_another_grid_is_brought_to_the_hosts(host, make_tower, tmp_path: Path) -> None:
    donor = make_tower(size=40, hidden_size=24)
    counts = {}
    for tokens in ("native", "resize_features", "resize_posemb"):
        out = tmp_path / tokens
        counts[tokens] = graft_tower(HOST, host("vicuna"), donor, out, GraftSettings(tokens=tokens)).tower.count
        loaded = load(out)
        assert last_logits(loaded, [open_image_of(out)], [HOST.prompt(SHORT)]).isfinite().all()
    assert counts == {"native": 26, "resize_features": 17, "resize_posemb": 17}


def open_image_of(_directory: Path):
    from PIL import Image

    return Image.effect_noise((50, 40), 90).convert("RGB")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_graft_computes_what_a_replacement_by_hand_computes(
    flavour: str, host, make_tower, photographs: list[Path], tmp_path: Path
) -> None:
    """The stock model in memory, its tower's features exchanged for the donor's: 16 wide, so nothing is new."""
    donor = make_tower(size=32)
    record = graft_tower(HOST, host(flavour), donor, tmp_path / "graft")
    assert not record.changed("new")
    model = InstructBlipForConditionalGeneration.from_pretrained(host(flavour)).eval()
    lay_out_alike(model)
    tower = load_tower(donor)[0]

    def instead(_module, _arguments, keywords, output):
        states = tower(keywords["pixel_values"]).last_hidden_state
        output.last_hidden_state = tower.post_layernorm(states)
        return output

    model.vision_model.register_forward_hook(instead, with_kwargs=True)
    loaded = load(tmp_path / "graft")
    inputs = loaded.processor(images=[open_image(photographs[0])], text=[HOST.prompt(SHORT)], return_tensors="pt")
    expected = preprocess(open_image(photographs[0]), read_header(donor).preprocessing)
    torch.testing.assert_close(inputs["pixel_values"][0], expected)
    if flavour == "t5":
        inputs["decoder_input_ids"] = torch.tensor([[model.config.text_config.decoder_start_token_id]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(**inputs).logits, model(**inputs).logits)


def published(host: Path, out: Path, t5: bool) -> Path:
    """The tiny host as the hub has it: image processor in its own file, everything but the language model in the first shard,
    next to some of that, and T5's own output matrix."""
    shutil.copytree(host, out, ignore=shutil.ignore_patterns("*.safetensors*"))
    tensors = {name: t for path in host.glob("*.safetensors") for name, t in load_file(path).items()}
    if t5:
        tensors["language_model.lm_head.weight"] = torch.randn_like(tensors["language_model.shared.weight"])
    language = sorted(name for name in tensors if name.startswith("language_model."))
    second = {name: tensors[name] for name in language[len(language) // 2 :]}
    first = {name: tensor for name, tensor in tensors.items() if name not in second}
    weight_map = {}
    for i, shard in enumerate((first, second), start=1):
        name = f"model-0000{i}-of-00002.safetensors"
        save_file(shard, out / name, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    processor = json.loads((out / "processor_config.json").read_text())
    (out / "preprocessor_config.json").write_text(json.dumps(processor.pop("image_processor")))
    (out / "processor_config.json").write_text(json.dumps(processor))
    return out


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_tensor_of_a_graft_onto_the_published_layout(flavour: str, host, donor: Path, tmp_path: Path) -> None:
    source = published(host(flavour), tmp_path / "published", flavour == "t5")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    record = graft_tower(HOST, source, donor, tmp_path / "graft")
    assert {path: path.read_bytes() for path in before} == before
    assert validate(tmp_path / "graft") == record
    second = "model-00002-of-00002.safetensors"
    assert (tmp_path / "graft" / second).samefile(source / second)
    new = {change.name for change in record.changed("new")}
    assert new == {
        f"qformer.encoder.layer.{layer}.crossattention.attention.{part}.{kind}"
        for layer in (0, 2)
        for part in ("key", "value")
        for kind in ("weight", "bias")
    }
    loaded = load(tmp_path / "graft")
    expected = {name: t for path in source.glob("*.safetensors") for name, t in load_file(path).items()}
    expected = {name: t for name, t in expected.items() if not name.startswith("vision_model.") and name not in new}
    expected |= {f"vision_model.donor.{name}": t for name, t in load_tower(donor)[0].state_dict().items()}
    found = loaded.model.state_dict()
    assert [name for name, t in expected.items() if not torch.equal(found[name], t)] == []
    tied = {"language_model.encoder.embed_tokens.weight", "language_model.decoder.embed_tokens.weight"}
    assert found.keys() - expected.keys() - tied == new
    assert loaded.processor.qformer_tokenizer("abc")["input_ids"] == [
        2,
        4,
        5,
        6,
        3,
    ]  # its own, not the language model's


def test_a_new_connector_is_new_from_the_features_to_the_language_model(host, make_tower, tmp_path: Path) -> None:
    record = graft_tower(HOST, host("vicuna"), make_tower(size=32), tmp_path / "graft", GraftSettings(connector="new"))
    state = load(tmp_path / "graft").model.state_dict()
    connector = {name for name in state if name.startswith(("qformer.", "language_projection."))}
    assert {change.name for change in record.changed("new")} == connector
    assert bool((state["qformer.encoder.layer.0.output.LayerNorm.weight"] == 1).all())
    assert bool((state["qformer.embeddings.layernorm.bias"] == 0).all())


def test_a_published_config_that_leaves_the_towers_shape_to_the_class(host, make_tower) -> None:
    files = json_files(host("vicuna"))
    files["config.json"]["vision_config"] = {"model_type": "instructblip_vision_model"}
    header = read_header(make_tower(size=32, hidden_size=24))
    found = HOST.plan(Source(host("vicuna"), files, {}), header, GraftSettings(tokens="resize_posemb"))
    assert found.positions == 16  # EVA-CLIP-g's grid
    assert found.files["config.json"]["vision_config"]["hidden_size"] == 24
    assert found.files["config.json"]["qformer_config"]["encoder_hidden_size"] == 24


def test_a_checkpoint_without_an_image_token_is_refused(host, donor: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(host("vicuna"), old)
    config = json.loads((old / "config.json").read_text())
    del config["image_token_index"]
    (old / "config.json").write_text(json.dumps(config))
    with pytest.raises(HostError, match="older than November 2024"):
        graft_tower(HOST, old, donor, tmp_path / "graft")


def test_the_stock_processor_would_shift_the_qformers_text(host) -> None:
    """Why the processor is ours; if transformers changes this, the subclass can go."""
    options = {"text": [HOST.prompt(SHORT), HOST.prompt(LONG)], "padding": True, "padding_side": "left"}
    stock = InstructBlipProcessor.from_pretrained(host("vicuna"))(**options)
    ours = load(host("vicuna")).processor(**options)
    assert stock["qformer_attention_mask"][0][0] == 0
    assert ours["qformer_attention_mask"][0][0] == 1
