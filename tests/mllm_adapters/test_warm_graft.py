"""A warm graft gives the host's connector the donor's tokens as if they were the old tower's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_inputs import ImageInputs
from PIL import Image
from safetensors.torch import load_file
from scored_question import letter_scores
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from transformers import CLIPVisionConfig, CLIPVisionModel

from mgll.images.preprocessing import ImageError, Preprocessing, open_image
from mgll.tower.file import read_header, save_tower
from mllm_adapters.contract.host import Plan
from mllm_adapters.contract.terms import GraftSettings, HostError, Source
from mllm_adapters.finetuning.finetune import finetune
from mllm_adapters.graft.source import open_source
from mllm_adapters.graft.transplant import graft_tower, plan_graft
from mllm_adapters.graft.validation import validate
from mllm_adapters.graft.warm import BATCH, Moments, images_in, matched, warm_plan
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion

QUESTION = "What is it?\nA. one\nB. two\nC. three\nD. four"
BRIDGED = ["internvl", "janus-pro", "instructblip", "qwen-vl"]
WIDTH, SIZE = 24, 32  # of the donor
SMALL = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def donor(make_tower: Callable[..., Path]) -> Path:
    return make_tower(size=SIZE, hidden_size=WIDTH)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Blurred noise, some of it not square, more than one batch of it."""
    folder, generator = tmp_path_factory.mktemp("unlabelled"), np.random.default_rng(3)
    for i in range(BATCH + 4):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40 + 5 * (i % 3)), Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
    return images_in(folder, 100)


@pytest.fixture(scope="module")
def bridged(hosts, donor: Path, unlabelled: list[Path], tmp_path_factory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def grafted(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bridged") / name
            graft_tower(get_host(name), hosts(name), donor, made[name], warm=unlabelled)
        return made[name]

    return grafted


def permuted(tower: CLIPVisionModel, order: torch.Tensor) -> CLIPVisionModel:
    """The same tower with the channels of its residual stream in another order: its tokens are those of the old one, permuted."""
    found = {}
    for name, tensor in tower.state_dict().items():
        reads = any(part in name for part in ("q_proj", "k_proj", "v_proj", "fc1"))
        if reads:
            found[name] = tensor[:, order] if name.endswith("weight") else tensor
        elif "position_embedding" in name:
            found[name] = tensor[:, order]
        else:
            found[name] = tensor[order]
    other = CLIPVisionModel(tower.config)
    other.load_state_dict(found)
    return other


def vectors(directory: Path, paths: list[Path]) -> torch.Tensor:
    """What the language model is given for these images."""
    loaded = load(directory)
    inputs = ImageInputs(loaded, paths).batch(paths)
    with torch.no_grad():
        return torch.stack(list(loaded.model.model.get_image_features(**inputs).pooler_output))


@pytest.mark.parametrize(("name", "tokens"), [("llava", "native"), ("llava", "pooled"), ("llava-med", "native")])
def test_a_map_that_exists_is_found_and_multiplied_into_the_connector(
    name: str, tokens: str, hosts, unlabelled: list[Path], tmp_path: Path
) -> None:
    own = load(hosts(name)).model.model.vision_tower
    torch.manual_seed(5)
    for change, tower in (("same", own), ("permuted", permuted(own, torch.randperm(own.config.hidden_size)))):
        encoder = tmp_path / f"{change}.ckpt"
        save_tower(encoder, tower, Preprocessing(size=SIZE, resize="pad"), pooling="mean")
        cold, warm = tmp_path / f"cold-{change}", tmp_path / f"warm-{change}"
        settings = GraftSettings(tokens=tokens)
        graft_tower(get_host(name), hosts(name), encoder, cold, settings)
        record = graft_tower(get_host(name), hosts(name), encoder, warm, settings, warm=unlabelled)
        assert validate(warm).warm == record.warm
        assert record.connector_needs_training
        assert [change.name.rpartition("linear_")[2] for change in record.changed("new")] == ["1.bias", "1.weight"]
        if tokens == "native":
            assert record.loads_in == "transformers"
            assert record.warm.explained > 0.99
            expected = vectors(hosts(name), unlabelled)
            close = (vectors(warm, unlabelled) - expected).abs().max() / expected.std()
            far = (vectors(cold, unlabelled) - expected).abs().max() / expected.std()
            assert close < 0.02
            assert (far == 0) if change == "same" else (far > 0.5)


def test_the_map_is_sklearns_ridge_regression_and_folded_exactly(
    hosts, donor: Path, unlabelled: list[Path], tmp_path: Path
) -> None:
    record = graft_tower(get_host("llava"), hosts("llava"), donor, tmp_path / "warm", warm=unlabelled)
    host = load(hosts("llava"))
    old = next(m for n, m in host.model.named_modules() if n.endswith("linear_1"))
    squares = [path for path in unlabelled if Image.open(path).width == Image.open(path).height] * 3
    other = graft_tower(get_host("llava"), hosts("llava"), donor, tmp_path / "square", warm=squares)
    graft_tower(get_host("llava"), hosts("llava"), donor, tmp_path / "cold")
    tokens = []
    for directory in (tmp_path / "cold", hosts("llava")):
        loaded = load(directory)
        inputs = ImageInputs(loaded, squares).batch(squares)
        with torch.no_grad():
            states = loaded.host.encode(loaded.model.model.vision_tower, loaded.model.config, inputs)
        tokens.append(states[:, 0, 1:].flatten(0, 1).double().numpy())
    x, y = tokens
    ridge = Ridge(alpha=other.warm.strength * x.var(axis=0).mean() * len(x)).fit(x, y)
    weight, bias = (old.weight.detach().double().numpy(), old.bias.detach().double().numpy())
    new = load(tmp_path / "square").model.model.multi_modal_projector.linear_1
    np.testing.assert_allclose(new.weight.detach(), weight @ ridge.coef_, atol=1e-4)
    np.testing.assert_allclose(new.bias.detach(), bias + weight @ ridge.intercept_, atol=1e-4)
    assert (other.warm.tokens, other.warm.images) == (len(x), len(squares))
    assert record.warm.tokens == len(unlabelled) * 16


def test_moments_give_the_explained_variance_of_other_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(80, 5, generator=generator) + 3, torch.randn(80, 4, generator=generator)
    y = x @ torch.randn(5, 4, generator=generator) + noise - 7
    fitted, held = Moments(), Moments()
    for i in range(0, 60, 20):
        fitted.add(x[i : i + 20], y[i : i + 20])
    held.add(x[60:], y[60:])
    weight, bias = fitted.solve(0.1)
    expected = r2_score(y[60:], (x[60:].double() @ weight.T + bias), multioutput="variance_weighted")
    assert held.explained(weight, bias) == pytest.approx(expected)
    assert 0.3 < expected < 0.99


def test_tokens_are_matched_by_place_on_the_coarser_grid() -> None:
    places = torch.arange(4.0).view(1, 2, 1, 2, 1).expand(1, 2, 2, 2, 2).reshape(1, 16, 1)  # the column, twice as fine
    coarse = torch.arange(4.0).view(1, 4, 1)
    fine, same = matched(places, coarse)
    assert fine.shape == same.shape == (1, 4, 1)
    assert torch.equal(same, coarse)
    with_class = torch.cat((torch.full((1, 1, 1), 9.0), coarse), dim=1)
    assert matched(with_class, coarse)[0].shape[1] == 4
    assert [found[0, 0].item() for found in matched(with_class, with_class)] == [9, 9]
    assert matched(torch.full((1, 1, 1), 5.0), coarse)[1].item() == 1.5
    with pytest.raises(HostError, match="7 tokens"):
        matched(torch.zeros(1, 7, 1), coarse)


@pytest.mark.parametrize("name", BRIDGED)
def test_elsewhere_a_bridge_carries_the_map_and_the_connector_stays(name: str, hosts, bridged) -> None:
    record = validate(bridged(name))
    before, after = load(hosts(name)), load(bridged(name))
    bridge = after.model.get_submodule(f"{after.host.tower}.bridge")
    width = before.model.config.vision_config.hidden_size
    assert tuple(bridge.weight.shape) == (width, WIDTH)
    new = [change.name for change in record.changed("new")]
    assert len(new) == 2
    assert all(".bridge." in key for key in new)
    found = after.model.state_dict()
    for key, tensor in before.model.state_dict().items():
        if not key.startswith(f"{after.host.tower}."):
            assert torch.equal(found[key], tensor), key


def test_donors_that_say_the_same_in_other_channels_are_the_same_behind_their_bridges(
    hosts, unlabelled: list[Path], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=16, image_size=SIZE, patch_size=8, **SMALL))
    for path, donor in ((first, tower), (second, permuted(tower, torch.randperm(16)))):
        save_tower(path, donor, Preprocessing(size=SIZE))
    host = get_host("janus-pro")
    records = [
        graft_tower(host, hosts("janus-pro"), path, tmp_path / f"graft-{path.name}", warm=unlabelled)
        for path in (first, second)
    ]
    one, two = (vectors(tmp_path / f"graft-{path.name}", unlabelled) for path in (first, second))
    assert one.std() > 0
    torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)
    assert records[0].warm.explained == pytest.approx(records[1].warm.explained, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", BRIDGED)
def test_the_bridge_is_trained_with_the_connector_and_comes_back(
    name: str, bridged, photographs: list[Path], tmp_path: Path
) -> None:
    questions = [TrainingQuestion(path, QUESTION, "ABCD"[i % 4]) for i, path in enumerate(photographs[:4])]
    scores = {}
    for cache in (0.0, 1.0):  # with room for it, the frozen donor runs once and the bridge is applied to what it said
        out = tmp_path / f"tuned-{cache}"
        settings = FinetuneSettings(steps=2, batch_size=2, rank=2, dropout=0.0, image_cache_gib=cache)
        finetune(bridged(name), questions, out, settings)
        saved = {key: value for key, value in load_file(out / "adapter_model.safetensors").items() if "bridge" in key}
        assert len(saved) == 2
        start = load(bridged(name)).model.get_submodule(f"{get_host(name).tower}.bridge").weight
        assert not torch.equal(next(v for k, v in saved.items() if k.endswith("weight")), start)
        found = letter_scores(out, open_image(photographs[0]))
        scores[cache] = found[0].log_probs
    assert scores[0.0] == pytest.approx(scores[1.0], abs=1e-4)


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl", "med-flamingo", "mini-gemini"])
def test_hosts_without_a_place_for_the_map_say_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no place for a linear map.*llava, llava-med, internvl"):
        warm_plan(get_host(name), Source(tmp_path, {}, {}), Plan({}, 1), GraftSettings(warm=True))


def test_what_is_wrong_with_the_images_is_said(hosts, donor: Path, unlabelled: list[Path], tmp_path: Path) -> None:
    host, out = get_host("llava"), tmp_path / "graft"
    (tmp_path / "empty").mkdir()
    with pytest.raises(HostError, match="no images in it"):
        images_in(tmp_path / "empty", 10)
    with pytest.raises(HostError, match="10 images or more"):
        graft_tower(host, hosts("llava"), donor, out, warm=unlabelled[:9])
    with pytest.raises(HostError, match="leave --connector new away"):
        graft_tower(host, hosts("llava"), donor, out, GraftSettings(connector="new"), warm=unlabelled)
    broken = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for path in broken:
        path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"2 of 14 .*a\.png.*b\.jpg"):
        graft_tower(host, hosts("llava"), donor, out, warm=[broken[0], *unlabelled, broken[1]])
    assert not out.exists()


def test_a_connector_without_biases_is_refused(hosts, donor: Path, unlabelled: list[Path]) -> None:
    host = get_host("llava")
    source = open_source(host, hosts("llava"))
    bare = replace(source, tensors={n: t for n, t in source.tensors.items() if "linear_1.bias" not in n})
    with pytest.raises(HostError, match="no bias"):
        plan_graft(host, bare, read_header(donor), GraftSettings(warm=True))


def test_images_are_drawn_with_a_seed(unlabelled: list[Path]) -> None:
    folder = unlabelled[0].parent
    assert images_in(folder, 4, 1) == images_in(folder, 4, 1) != images_in(folder, 4, 2)
    assert len(images_in(folder, 4)) == 4
