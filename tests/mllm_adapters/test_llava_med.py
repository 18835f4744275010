"""LLaVA-Med's published layout: what transformers makes of it afterwards, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from five_commands import five_commands
from published_llava import (
    HIDDEN,
    LOW,
    PATCH,
    VOCABULARY,
    connector_shapes,
    language_shapes,
    prompt_ids,
    save_published,
    tower_shapes,
    value,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing, open_image, preprocess
from mgll.tower.file import load_tower, save_tower
from mllm_adapters.contract.terms import HostError
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host, host_of
from mllm_adapters.loading.load import load

HOST = get_host("llava-med")
COUNT = (LOW // PATCH) ** 2
PROMPT = HOST.prompt("What is shown in the picture?")
#: config.json of the published checkpoint, but for the sizes.
CONFIG = {
    "architectures": ["LlavaMistralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "image_aspect_ratio": "pad",
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 32768,
    "mm_hidden_size": 1024,
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava_mistral",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 2048,
    "tokenizer_padding_side": "right",
    "torch_dtype": "float32",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": True,
    "use_cache": False,
    "use_mm_proj": True,
    "vocab_size": VOCABULARY,
}

PLAIN = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [entry for entry in sys.path if "editable" not in entry]
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration
try:
    import mllm_adapters
except ImportError:
    pass
else:
    sys.exit("our package can be imported, so this proves nothing")
torch.set_num_threads(1)
image, prompt = sys.argv[1:3]
for directory, out in zip(sys.argv[3::2], sys.argv[4::2]):
    model, info = LlavaForConditionalGeneration.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()), info
    processor = AutoProcessor.from_pretrained(directory)
    inputs = processor(images=Image.open(image), text=prompt, return_tensors="pt")
    with torch.inference_mode():
        seen = {"ids": inputs["input_ids"], "pixels": inputs["pixel_values"], "logits": model(**inputs).logits}
    save_file(seen | {name: tensor.clone() for name, tensor in model.state_dict().items()}, out)
"""


def published_tensors() -> dict[str, torch.Tensor]:
    shapes = (
        language_shapes(key_width=16) | tower_shapes() | connector_shapes() | {"lm_head.weight": (VOCABULARY, HIDDEN)}
    )
    return {name: value(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hub") / "llava-med-v1.5-mistral-7b"
    save_published(directory, published_tensors(), CONFIG)
    return directory


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "llava-med"
    convert_host(HOST, published, out)
    return out


@pytest.fixture(scope="module")
def encoder(make_tower: Callable[..., Path]) -> Path:
    return make_tower(size=LOW, patch_size=PATCH, hidden_size=64, num_attention_heads=2)


@pytest.fixture(scope="module")
def grafted(published: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graft") / "llava-med"
    graft_tower(HOST, published, encoder, out)
    return out


@pytest.fixture(scope="module")
def own_tower(published: Path, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    save_tower(folder / "own.ckpt", load(converted).model.model.vision_tower, Preprocessing(size=LOW, resize="pad"))
    graft_tower(HOST, published, folder / "own.ckpt", folder / "graft")
    return folder / "graft"


@pytest.fixture(scope="module")
def plain(
    converted: Path, grafted: Path, own_tower: Path, photographs: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[Path, dict[str, torch.Tensor]]:
    """Inputs, logits and all tensors of each directory in a process that cannot see this repository."""
    folder, directories = tmp_path_factory.mktemp("plain"), [converted, grafted, own_tower]
    outs = {directory: folder / f"{i}.safetensors" for i, directory in enumerate(directories)}
    arguments = [str(path) for pair in outs.items() for path in pair]
    command = [sys.executable, "-I", "-c", PLAIN, str(photographs[0]), PROMPT, *arguments]
    subprocess.run(command, check=True, cwd=folder, timeout=200)
    return {directory: load_file(out) for directory, out in outs.items()}


def expected_tensors(tower: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """What transformers' LLaVA must hold, under its own names."""
    found = {}
    for name, tensor in published_tensors().items():
        if ".vision_tower." in name:
            name = "model.vision_tower." + name.partition("vision_model.")[2]
        elif ".mm_projector." in name:
            name = name.replace("mm_projector.0", "multi_modal_projector.linear_1")
            name = name.replace("mm_projector.2", "multi_modal_projector.linear_2")
        elif name.startswith("model."):
            name = "model.language_model." + name.removeprefix("model.")
        found[name] = tensor
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        mean = found[name].mean(0, keepdim=True)
        found[name] = torch.cat((found[name], mean, mean))
    if tower:
        found = {name: tensor for name, tensor in found.items() if not name.startswith("model.vision_tower.")}
        found |= {f"model.vision_tower.{name}": tensor for name, tensor in tower.items()}
    return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() - {"ids", "pixels", "logits"} == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-7 if found[name].shape[0] > VOCABULARY else 0)


@torch.inference_mode()
def published_logits(ids: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """What the published weights say: tower, MLP and Mistral put together by hand, image features between word embeddings."""
    tensors = published_tensors()

    def below(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=1,
        image_size=LOW,
        patch_size=PATCH,
    )
    tower = CLIPVisionModel(vision)
    tower.load_state_dict(below("model.vision_tower.vision_tower.vision_model."))
    projector = nn.Sequential(nn.Linear(64, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN))
    projector.load_state_dict(below("model.mm_projector."))
    names = MistralConfig().to_dict()
    language = MistralForCausalLM(
        MistralConfig(**{key: v for key, v in CONFIG.items() if key in names or key == "rope_theta"})
    )
    assert language.config.rope_parameters["rope_theta"] == 1e6
    language.load_state_dict({n: t for n, t in tensors.items() if "vision_tower" not in n and "mm_projector" not in n})
    features = projector(tower.eval()(pixels, output_hidden_states=True).hidden_states[-2][:, 1:])
    embeddings = language.get_input_embeddings()(ids.clamp(max=VOCABULARY - 1))
    embeddings[ids >= VOCABULARY] = features[0]
    return language.eval()(inputs_embeds=embeddings).logits


@pytest.mark.slow
def test_plain_transformers_computes_what_the_published_weights_say(
    published: Path, converted: Path, plain, photographs: list[Path]
) -> None:
    found = plain[converted]
    assert_same(found, expected_tensors())
    assert found["ids"][0].tolist() == prompt_ids(published, PROMPT, VOCABULARY, COUNT)
    seen = preprocess(open_image(photographs[0]), Preprocessing(size=LOW, resize="pad"))
    torch.testing.assert_close(found["pixels"][0], seen)
    expected = published_logits(found["ids"], found["pixels"])
    torch.testing.assert_close(found["logits"][..., :VOCABULARY], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_graft_loads_in_plain_transformers_with_every_tensor_right(grafted: Path, encoder: Path, plain) -> None:
    record = validate(grafted)
    assert (record.host, record.loads_in, record.features) == ("llava-med", "transformers", COUNT)
    assert record.connector_needs_training
    assert_same(plain[grafted], expected_tensors(load_tower(encoder)[0].state_dict()))


@pytest.mark.slow
def test_its_own_tower_changes_no_logit(converted: Path, own_tower: Path, plain) -> None:
    assert not validate(own_tower).connector_needs_training
    assert torch.equal(plain[converted]["logits"], plain[own_tower]["logits"])


@pytest.mark.layout("llava-med", "`llava_mistral`, no tower in it")
@pytest.mark.slow
def test_the_published_layout_without_its_tower_through_all_commands(
    published: Path, converted: Path, encoder: Path, cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    clip, prefix = tmp_path / "clip", "model.vision_tower.vision_tower."
    tensors = published_tensors()
    clip.mkdir()
    save_file({n.removeprefix(prefix): t for n, t in tensors.items() if prefix in n}, clip / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if prefix not in name}
    save_published(tmp_path / "blind", kept, CONFIG | {"mm_vision_tower": str(clip)})
    done = five_commands("llava-med", tmp_path / "blind", encoder, cases, photographs[0], tmp_path)
    expected, found = load(converted).model.state_dict(), load(done.converted).model.state_dict()
    assert [name for name in expected | found if not torch.equal(found[name], expected[name])] == []


def test_the_published_folder_is_only_read(published: Path, encoder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    graft_tower(HOST, published, encoder, tmp_path / "graft")
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_the_new_tokens_are_never_said(converted: Path) -> None:
    loaded = load(converted)
    head = loaded.model.lm_head.weight
    assert loaded.processor.tokenizer.convert_tokens_to_ids(["<image>", "<pad>"]) == [VOCABULARY, VOCABULARY + 1]
    assert (loaded.model.config.image_token_id, loaded.processor.tokenizer.pad_token_id) == (VOCABULARY, VOCABULARY + 1)
    states = torch.randn(1000, HIDDEN, generator=torch.Generator().manual_seed(0))
    assert (states @ head.T).argmax(-1).max() < VOCABULARY


def test_whose_it_is_without_a_record(converted: Path, host_directory: Path) -> None:
    assert host_of(json.loads((converted / "config.json").read_text())).name == "llava-med"
    assert host_of(json.loads((host_directory / "config.json").read_text())).name == "llava"


def test_a_checkpoint_with_a_fast_tokenizer_only(published: Path, converted: Path, tmp_path: Path) -> None:
    fast = tmp_path / "fast"
    save_published(fast, published_tensors(), CONFIG, shards=1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(converted)
    content = json.loads((converted / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < VOCABULARY]
    content["pre_tokenizer"]["prepend_scheme"] = "first"  # as newer versions of transformers write it
    (fast / "tokenizer.json").write_text(json.dumps(content))
    (fast / "tokenizer.model").unlink()
    convert_host(HOST, fast, tmp_path / "converted")
    again = AutoTokenizer.from_pretrained(tmp_path / "converted")
    prompt = HOST.prompt("What is it?")
    assert again(prompt)["input_ids"] == tokenizer(prompt)["input_ids"] == prompt_ids(published, prompt, VOCABULARY, 1)
    assert len(again) == VOCABULARY + 2


def test_tables_that_are_computed_are_left_out_and_strangers_are_named(published: Path, tmp_path: Path) -> None:
    old = published_tensors() | {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    save_published(tmp_path / "old", old, CONFIG)
    convert_host(HOST, tmp_path / "old", tmp_path / "converted")
    assert load(tmp_path / "converted").model.lm_head.weight.shape == (VOCABULARY + 2, HIDDEN)
    save_published(tmp_path / "strange", old | {"model.segmenter.weight": torch.ones(2)}, CONFIG)
    with pytest.raises(FormatError, match=r"family does not have: model\.segmenter\.weight"):
        convert_host(HOST, tmp_path / "strange", tmp_path / "never")
    without = {name: tensor for name, tensor in old.items() if name != "lm_head.weight"}
    save_published(tmp_path / "without", without, CONFIG)
    with pytest.raises(FormatError, match=r"lm_head\.weight is in no shard"):
        convert_host(HOST, tmp_path / "without", tmp_path / "never")
    blind = {name: tensor for name, tensor in old.items() if "vision_tower" not in name}
    save_published(tmp_path / "blind", blind, CONFIG)
    with pytest.raises(HostError, match=r"leaves its tower out: its projector reads one 64 wide.* add --part clip="):
        convert_host(HOST, tmp_path / "blind", tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "llava_llama"}, "'llava_llama' checkpoint: LLaVA-1.5; type --model llava"),
        ({"mm_projector_type": "linear"}, "only mlp2x_gelu"),
    ],
)
def test_other_checkpoints_are_refused(change: dict[str, str], said: str, published: Path, tmp_path: Path) -> None:
    save_published(tmp_path / "other", published_tensors(), CONFIG | change)
    with pytest.raises(HostError, match=said):
        convert_host(HOST, tmp_path / "other", tmp_path / "never")


def test_half_precision_and_old_bin_shards(published: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    old = tmp_path / "old"
    save_published(old, published_tensors(), CONFIG | {"torch_dtype": "bfloat16"})
    weight_map = {}
    for path in sorted(old.glob("*.safetensors")):
        name = path.name.replace("model", "pytorch_model").replace("safetensors", "bin")
        tensors = {key: tensor.bfloat16() for key, tensor in load_file(path).items()}
        torch.save(tensors, old / name)
        weight_map |= dict.fromkeys(tensors, name)
        path.unlink()
    (old / "model.safetensors.index.json").unlink()
    (old / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    graft_tower(HOST, old, make_tower(size=16), tmp_path / "graft")
    model = load(tmp_path / "graft").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    expected = value("model.norm.weight", (HIDDEN,)).bfloat16()
    assert torch.equal(model.model.language_model.norm.weight, expected)
