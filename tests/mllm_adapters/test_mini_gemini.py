"""Mini-Gemini: the published code's numbers, the published layout, and which towers its mining can take."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from five_commands import five_commands
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from published_llava import (
    HIDDEN,
    LOW,
    PATCH,
    VOCABULARY,
    WIDTH,
    connector_shapes,
    language_shapes,
    linear,
    prompt_ids,
    save_published,
    tower_shapes,
    value,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mgll.formats import FormatError
from mgll.images.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, open_image, preprocess
from mgll.tower.file import load_tower, read_header, save_tower
from mllm_adapters import convert, swap
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.mini_gemini.model import ConvNeXtMap, MiniGeminiConfig, PatchInfoMining
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("mini-gemini")
NUMBERS = json.loads(Path(__file__).with_name("mini_gemini_numbers.json").read_text())
DIMS, DEPTHS, HIGH, COUNT = (4, 8, 12, 16), (1, 1, 2, 1), 64, (LOW // PATCH) ** 2
#: config.json of the published checkpoint, but for the sizes.
CONFIG = {
    "architectures": ["MGMLlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "image_aspect_ratio": "pad",
    "image_global": False,
    "image_grid": 1,
    "image_size_aux": HIGH,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_length": 4096,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_hidden_size_aux": 2880,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "model_zoo/OpenAI/clip-vit-large-patch14-336",
    "mm_vision_tower_aux": "model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup",
    "model_type": "mgm",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "optimize_vision_tower": False,
    "optimize_vision_tower_aux": False,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "tokenizer_model_max_length": 2048,
    "tokenizer_padding_side": "right",
    "torch_dtype": "float32",
    "use_cache": True,
    "use_mm_proj": True,
    "vocab_size": VOCABULARY,
}


def convnext_shapes(prefix: str = "model.vision_tower_aux.vision_") -> dict[str, tuple[int, ...]]:
    """Stem and stages under the names that timm gives them."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}stem.0.weight": (DIMS[0], 3, 4, 4),
        f"{prefix}stem.0.bias": DIMS[:1],
    }
    norms = {f"{prefix}stem.1": DIMS[0]}
    for stage, (width, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        if stage:
            down = f"{prefix}stages.{stage}.downsample."
            norms[f"{down}0"] = DIMS[stage - 1]
            shapes |= {f"{down}1.weight": (width, DIMS[stage - 1], 2, 2), f"{down}1.bias": (width,)}
        for i in range(depth):
            block = f"{prefix}stages.{stage}.blocks.{i}."
            shapes |= {
                f"{block}gamma": (width,),
                f"{block}conv_dw.weight": (width, 1, 7, 7),
                f"{block}conv_dw.bias": (width,),
            }
            shapes |= linear(f"{block}mlp.fc1", 4 * width, width) | linear(f"{block}mlp.fc2", width, 4 * width)
            norms[f"{block}norm"] = width
    return shapes | {f"{norm}.{part}": (width,) for norm, width in norms.items() for part in ("weight", "bias")}


def published_tensors() -> dict[str, Tensor]:
    shapes = language_shapes() | tower_shapes() | connector_shapes() | convnext_shapes()
    for name, width in (("query", WIDTH), ("aux", sum(DIMS)), ("val", sum(DIMS))):
        norm = f"model.vlm_uni_{name}_projector.0"
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        shapes |= linear(f"model.vlm_uni_{name}_projector.1", WIDTH, width)
    shapes |= {"lm_head.weight": (VOCABULARY, HIDDEN)}
    return {name: value(name, shape) for name, shape in shapes.items()}


def expected_tensors() -> dict[str, Tensor]:
    """What our class must hold."""
    names = {
        "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
        "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
        "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
        "model.vlm_uni_query_projector.": "model.mining.query.",
        "model.vlm_uni_aux_projector.": "model.mining.key.",
        "model.vlm_uni_val_projector.": "model.mining.value.",
        **{f"model.{part}": f"model.language_model.{part}" for part in ("embed_tokens.", "layers.", "norm.")},
    }
    found = {}
    for name, tensor in published_tensors().items():
        old = next((old for old in names if name.startswith(old)), "")
        found[names.get(old, "") + name.removeprefix(old)] = tensor
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        mean = found[name].mean(0, keepdim=True)
        found[name] = torch.cat((found[name], mean, mean))
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hub") / "MGM-7B"
    save_published(directory, published_tensors(), CONFIG)
    return directory


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "mgm"
    convert_host(HOST, published, out)
    return out


def test_the_published_codes_numbers(converted: Path) -> None:
    model = load(converted).model.model
    noise = np.random.RandomState(0).standard_normal((1, 3, HIGH, HIGH))
    pixels, seen = torch.from_numpy(noise).float(), []
    model.mining.register_forward_hook(lambda _module, _arguments, output: seen.append(output))
    with torch.inference_mode():
        features = model.get_image_features(pixels).pooler_output
    torch.testing.assert_close(seen[0][0], torch.tensor(NUMBERS["mined"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features[0], torch.tensor(NUMBERS["features"]), rtol=1e-5, atol=1e-5)


def test_every_tensor_and_the_prompt_of_a_converted_checkpoint(
    published: Path, converted: Path, photographs: list[Path]
) -> None:
    loaded, expected = load(converted), expected_tensors()
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.allclose(found[name], expected[name], rtol=0, atol=1e-7)] == []
    prompt = HOST.prompt("What is it?")
    inputs = loaded.processor(images=open_image(photographs[0]), text=prompt, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == prompt_ids(published, prompt, VOCABULARY, COUNT)
    seen = preprocess(open_image(photographs[0]), Preprocessing(size=HIGH, resize="pad"))
    torch.testing.assert_close(inputs["pixel_values"][0], seen)


def written_out(mining: PatchInfoMining, tokens: Tensor, cells: Tensor) -> Tensor:
    """Mining as its paper has it: keys and values of every cell, one query a window."""
    side = int(tokens.shape[1] ** 0.5)
    width, found = cells.shape[-1] // side, []
    for i in range(tokens.shape[1]):
        row, column = divmod(i, side)
        window = cells[:, :, row * width : (row + 1) * width, column * width : (column + 1) * width]
        window = window.flatten(2).transpose(1, 2)
        query, keys, values = mining.query(tokens[:, i : i + 1]), mining.key(window), mining.value(window)
        found.append(nn.functional.scaled_dot_product_attention(query, keys, values))
    return tokens + torch.cat(found, dim=1)


def test_the_fast_mining_is_the_one_written_out() -> None:
    torch.manual_seed(0)
    mining, tokens, cells = PatchInfoMining(12, 20), torch.randn(2, 9, 12), torch.randn(2, 20, 12, 12) * 3 + 1
    with torch.no_grad():
        for parameter in mining.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    tokens.requires_grad_()
    cells.requires_grad_()
    leaves = [tokens, cells, *mining.parameters()]
    weights = torch.randn(2, 9, 12)
    fast, slow = mining(tokens, cells), written_out(mining, tokens, cells)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad((output * weights).sum(), leaves) for output in (fast, slow)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="12 x 12 cells cannot be shared out among 25 tokens"):
        mining(torch.randn(1, 25, 12), cells)


def test_the_full_sized_convnext_has_open_clips_names_and_shapes() -> None:
    settings = open_clip.get_model_config("convnext_large_d_320")
    config = MiniGeminiConfig()
    with torch.device("meta"):
        trunk = _build_vision_tower(settings["embed_dim"], CLIPVisionCfg(**settings["vision_cfg"])).trunk
        found = ConvNeXtMap(config.convnext_dims, config.convnext_depths)
    expected = {f"vision_{n}": t.shape for n, t in trunk.state_dict().items() if n.startswith(("stem.", "stages."))}
    assert {name: tensor.shape for name, tensor in found.state_dict().items()} == expected
    assert {m.eps for m in found.modules() if isinstance(m, nn.LayerNorm)} == {
        m.eps for m in trunk.stages.modules() if isinstance(m, nn.LayerNorm)
    }


def save_without_towers(folder: Path, kind: str = "safetensors") -> tuple[Path, Path, Path]:
    """The checkpoint as it is published, which holds neither tower, and the two towers as their makers publish them."""
    tensors = published_tensors()
    kept = {name: tensor for name, tensor in tensors.items() if ".vision_tower" not in name}
    save_published(folder / "without", kept, CONFIG)
    clip, convnext = folder / "clip-vit-large-patch14-336", folder / "CLIP-convnext_large_d_320"
    clip.mkdir()
    convnext.mkdir()
    towers = {"logit_scale": torch.tensor(1.0), "text_model.embeddings.position_ids": torch.arange(3)[None]}
    towers |= {n.partition("vision_tower.vision_tower.")[2]: t for n, t in tensors.items() if "vision_model." in n}
    towers |= {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    trunk = {
        f"visual.trunk.{n.partition('.vision_')[2].partition('.vision_')[2]}": t
        for n, t in tensors.items()
        if "_aux." in n
    }
    trunk |= {"visual.head.proj.weight": torch.ones(2, 2), "text.token_embedding.weight": torch.ones(3, 2)}
    if kind == "bin":
        torch.save(towers, clip / "pytorch_model.bin")
        torch.save(trunk, convnext / "open_clip_pytorch_model.bin")
    else:
        save_file(towers, clip / "model.safetensors")
        save_file(trunk, convnext / "open_clip_model.safetensors")
    return folder / "without", clip, convnext


@pytest.mark.layout("mini-gemini", "`mgm`")
@pytest.mark.slow
def test_the_published_form_through_all_commands(
    make_tower: Callable[..., Path], cases: Path, photographs: list[Path], tmp_path: Path
) -> None:
    source, clip, convnext = save_without_towers(tmp_path)
    encoder = make_tower(size=LOW, patch_size=PATCH, hidden_size=WIDTH)
    five_commands("mini-gemini", source, encoder, cases, photographs[0], tmp_path, {"clip": clip, "convnext": convnext})


def test_parts_come_from_their_hub_ids_and_a_graft_needs_no_clip(
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    _, _, convnext = save_without_towers(tmp_path)
    kept = {name: tensor for name, tensor in published_tensors().items() if ".vision_tower" not in name}
    query, first = "model.vlm_uni_query_projector", "model.mm_projector.0.weight"  # 1024 wide, as CLIP is
    shapes = {f"{query}.0.weight": (1024,), f"{query}.0.bias": (1024,), f"{query}.1.weight": (1024, 1024)}
    shapes |= {f"{query}.1.bias": (1024,), first: (HIDDEN, 1024)}
    for name in ("aux", "val"):
        shapes |= linear(f"model.vlm_uni_{name}_projector.1", 1024, sum(DIMS))
    save_published(tmp_path / "MGM-7B", kept | {name: value(name, shape) for name, shape in shapes.items()}, CONFIG)
    encoder = make_tower(size=LOW, patch_size=PATCH, hidden_size=WIDTH)
    of = ["--model", "mini-gemini", "--checkpoint", str(tmp_path / "MGM-7B"), "--out", str(tmp_path / "out")]
    assert swap.main([*of, "--encoder", str(encoder)]) == 1
    said = capsys.readouterr().err
    assert f"{HOST.parts['convnext']} is neither in the cache nor to be had from the hub" in said
    assert "--part convnext=DIR" in said
    snapshot = cache / f"models--{HOST.parts['convnext'].replace('/', '--')}" / "snapshots" / "0"
    snapshot.parent.mkdir(parents=True)
    convnext.rename(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0")
    assert swap.main([*of, "--encoder", str(encoder)]) == 0
    assert "its own tower (clip) out, which is not needed" in capsys.readouterr().out
    assert validate(tmp_path / "out").host == "mini-gemini"
    assert convert.main([*of[:-1], str(tmp_path / "never")]) == 1
    assert "openai/clip-vit-large-patch14-336 is neither in the cache nor" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_towers_that_the_file_leaves_out(kind: str, converted: Path, tmp_path: Path) -> None:
    _, clip, convnext = save_without_towers(tmp_path, kind)
    with pytest.raises(
        HostError, match=r"leaves its convnext tower out; add --part convnext=DIR_OR_HUB_ID \(laion/CLIP-conv"
    ):
        convert_host(HOST, tmp_path / "without", tmp_path / "never", parts={"clip": clip})
    with pytest.raises(FormatError, match=r"no convnext tower in it; laion/CLIP-convnext"):
        convert_host(HOST, tmp_path / "without", tmp_path / "never", parts={"clip": clip, "convnext": clip})
    convert_host(HOST, tmp_path / "without", tmp_path / "whole", parts={"clip": clip, "convnext": convnext})
    expected, found = load(converted).model.state_dict(), load(tmp_path / "whole").model.state_dict()
    assert [name for name in expected | found if not torch.equal(found[name], expected[name])] == []


def test_its_own_tower_stands_where_it_stood_and_changes_no_logit(
    published: Path, converted: Path, photographs: list[Path], tmp_path: Path
) -> None:
    host = load(converted)
    own = tmp_path / "own.ckpt"
    save_tower(own, host.model.model.vision_tower, Preprocessing(size=LOW, resize="pad"))
    record = graft_tower(HOST, published, own, tmp_path / "graft")
    assert not record.connector_needs_training
    assert record.tower is None
    inputs = host.processor(images=open_image(photographs[0]), text=HOST.prompt("What?"), return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(host.model(**inputs).logits, load(tmp_path / "graft").model(**inputs).logits)


def test_a_donor_sees_its_own_normalisation_and_the_convnext_clips(
    published: Path, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    encoder = make_tower(size=24, hidden_size=WIDTH, num_attention_heads=2, patch_size=3)
    record = graft_tower(HOST, published, encoder, tmp_path / "graft")
    assert validate(tmp_path / "graft") == record
    assert (record.features, record.placeholders, record.loads_in) == (64, 64, "mllm_adapters.load")
    assert not record.changed("new")
    loaded, donor = load(tmp_path / "graft"), load_tower(encoder)[0]
    for name, tensor in donor.state_dict().items():
        assert torch.equal(loaded.model.model.vision_tower.donor.state_dict()[name], tensor)
    before, after = expected_tensors(), loaded.model.state_dict()
    kept = [name for name in before if not name.startswith("model.vision_tower.")]
    assert [name for name in kept if not torch.allclose(after[name], before[name], rtol=0, atol=1e-7)] == []

    inputs = loaded.processor(images=open_image(photographs[0]), text=HOST.prompt("What?"), return_tensors="pt")
    pixels, header = inputs["pixel_values"], read_header(encoder).preprocessing
    assert pixels.shape[-1] == HIGH
    plain = pixels * torch.tensor(CLIP_STD).view(3, 1, 1) + torch.tensor(CLIP_MEAN).view(3, 1, 1)
    small = nn.functional.interpolate(plain, (24, 24), mode="bicubic", antialias=True)
    small = (small - torch.tensor(header.mean).view(3, 1, 1)) / torch.tensor(header.std).view(3, 1, 1)
    with torch.inference_mode():
        tokens = donor(small, output_hidden_states=True).hidden_states[-2][:, 1:]
        model = loaded.model.model
        expected = model.multi_modal_projector(written_out(model.mining, tokens, model.vision_tower_aux(pixels)))
        found = model.get_image_features(pixels).pooler_output
        assert loaded.model(**inputs).logits.isfinite().all()
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("tokens", "side"), [("native", 2), ("resize_features", 4), ("resize_posemb", 4), ("pooled", 1)]
)
def test_what_a_token_sees_under_each_policy(
    tokens: str, side: int, published: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = make_tower(size=16, hidden_size=24)
    record = graft_tower(HOST, published, encoder, tmp_path / "graft", GraftSettings(tokens=tokens))
    assert (record.features, record.placeholders) == (side * side, side * side)
    new = {change.name.removeprefix("model.") for change in record.changed("new")}
    assert new == {
        *(f"mining.query.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")),
        *(f"mining.{what}.1.{part}" for what in ("key", "value") for part in ("weight", "bias")),
        *(f"multi_modal_projector.linear_1.{part}" for part in ("weight", "bias")),
    }
    model, windows = load(tmp_path / "graft").model.model, []
    model.mining.register_forward_hook(lambda _module, arguments, _output: windows.append(arguments))
    features = model.get_image_features(torch.randn(1, 3, HIGH, HIGH)).pooler_output
    assert features[0].shape == (side * side, HIDDEN)
    ((seen, cells),) = windows
    assert (seen.shape, cells.shape[1:]) == ((1, side * side, 24), (sum(DIMS), HIGH // 4, HIGH // 4))


def test_what_mining_cannot_take(published: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    odd = make_tower(size=24)
    with pytest.raises(HostError, match=r"grid of 3 x 3 does not divide the map of 16 x 16 cells.*resize_features"):
        graft_tower(HOST, published, odd, tmp_path / "graft")
    assert (
        graft_tower(HOST, published, odd, tmp_path / "graft", GraftSettings(tokens="resize_features")).features == COUNT
    )
    with pytest.raises(HostError, match="a class token has no window"):
        graft_tower(HOST, published, make_tower(size=16), tmp_path / "never", GraftSettings(feature_select="full"))
    with pytest.raises(HostError, match="feature layer 7 does not exist"):
        graft_tower(HOST, published, make_tower(size=16), tmp_path / "never", GraftSettings(feature_layer=7))
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_grid": 2, "image_global": True}, "HD variants"),
        ({"rope_theta": 500000.0}, "not Vicuna"),
        ({"model_type": "mgm_gemma"}, "its language model is not Vicuna .* take YanweiLi/MGM-7B"),
        ({"mm_vision_select_feature": "cls_patch"}, "class token"),
    ],
)
def test_variants_that_are_not_built_here(change: dict[str, object], said: str, tmp_path: Path) -> None:
    save_published(tmp_path / "other", published_tensors(), CONFIG | change, shards=1)
    with pytest.raises(HostError, match=said):
        convert_host(HOST, tmp_path / "other", tmp_path / "never")


def test_a_new_connector_is_new_throughout(published: Path, make_tower: Callable[..., Path], tmp_path: Path) -> None:
    settings = GraftSettings(connector="new", seed=3)
    record = graft_tower(HOST, published, make_tower(size=16, hidden_size=WIDTH), tmp_path / "graft", settings)
    tensors = load_file(tmp_path / "graft" / "model-mgll-tower.safetensors")
    connector = [name for name in expected_tensors() if ".mining." in name or ".multi_modal_projector." in name]
    assert {change.name for change in record.changed("new")} == set(connector)
    assert torch.equal(tensors["model.mining.key.0.weight"], torch.ones(sum(DIMS)))
    assert not tensors["model.mining.key.0.bias"].any()
    bound = sum(DIMS) ** -0.5
    assert bound / 2 < tensors["model.mining.value.1.weight"].abs().max() <= bound


def test_half_precision_on_a_cpu(
    published: Path, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    graft_tower(HOST, published, make_tower(size=32, hidden_size=WIDTH), tmp_path / "graft")
    scored = []
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load(tmp_path / "graft", dtype=dtype)
        inputs = loaded.processor(images=open_image(photographs[0]), text=HOST.prompt("What?"), return_tensors="pt")
        with torch.inference_mode():
            features = loaded.model.model.get_image_features(inputs["pixel_values"].to(dtype)).pooler_output[0]
        assert features.dtype == dtype
        scored.append(features.float())
    assert (scored[0] - scored[1]).norm() < 0.03 * scored[0].norm()
