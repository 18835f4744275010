"""Every host: graft, forward, backward, generate, a LoRA step, save, reload, a scored question, and what it refuses."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import launches
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scored_question import QUESTION, last_logits, letter_scores
from transformers import PreTrainedModel

from mgll.formats import FormatError
from mgll.images.preprocessing import open_image
from mgll.tower.file import load_tower, read_header, save_tower
from mgll.tower.positions import resize_positions
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.graft.weights import TOWER_SHARD
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.loading.load import load
from mllm_adapters.settings import FinetuneSettings

#: token policies by which a host cannot take this donor, whose grid is 4 x 4 like the tiny hosts' own
REFUSED: dict[tuple[str, str], str] = {
    ("qwen-vl", "pooled"): "256 equal tokens",
}


@pytest.mark.parametrize("name", HOSTS)
def test_attention_is_fused_or_said_not_to_be(name: str, hosts) -> None:
    loaded = load(hosts(name))
    used = {part.config._attn_implementation for part in loaded.model.modules() if isinstance(part, PreTrainedModel)}
    assert used <= {"sdpa", "eager"}
    assert ("eager" in used) == (name == "paligemma")  # whose Gemma 2 caps its logits
    assert ("attention is not fused in Gemma2Model" in loaded.note) == ("eager" in used)


@pytest.mark.parametrize("tokens", ["native", "resize_features", "resize_posemb", "pooled"])
@pytest.mark.parametrize("name", HOSTS)
def test_every_token_policy(
    name: str, tokens: str, hosts, donor: Path, grafts, photographs: list[Path], tmp_path: Path
) -> None:
    if (name, tokens) in REFUSED:
        with pytest.raises(HostError, match=REFUSED[name, tokens]):
            graft_tower(get_host(name), hosts(name), donor, tmp_path / "graft", GraftSettings(tokens=tokens))
        assert not (tmp_path / "graft").exists()
        return
    directory = grafts(name, tokens)
    record = validate(directory)
    assert record.connector_needs_training
    found = letter_scores(directory, *(open_image(path) for path in photographs[:2]))
    probabilities = torch.tensor([score.log_probs for score in found]).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    assert not torch.equal(probabilities[0], probabilities[1])  # the image is seen


@pytest.mark.parametrize("name", HOSTS)
def test_positions_of_a_donor_with_another_grid_are_interpolated(
    name: str, hosts, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    donor = make_tower(size=48, hidden_size=24)
    graft_tower(get_host(name), hosts(name), donor, tmp_path / "graft", GraftSettings(tokens="resize_posemb"))
    loaded = load(tmp_path / "graft")
    tower = loaded.model.get_submodule(loaded.host.tower)
    found = getattr(tower, "donor", tower).state_dict()["embeddings.position_embedding.weight"]
    own = load_tower(donor)[0].state_dict()["embeddings.position_embedding.weight"]
    grid = math.isqrt(len(found) - 1)
    assert grid != math.isqrt(len(own) - 1)
    assert torch.equal(found, resize_positions(own, grid))
    letter_scores(tmp_path / "graft", open_image(photographs[0]))


@pytest.mark.parametrize("name", HOSTS)
def test_every_tensor_of_the_donor_is_in_place(name: str, donor: Path, grafts) -> None:
    loaded = load(grafts(name))
    tower = loaded.model.get_submodule(loaded.host.tower)
    tensors = dict(getattr(tower, "donor", tower).state_dict())
    for key, tensor in load_tower(donor)[0].state_dict().items():
        assert torch.equal(tensors[key], tensor), key


@pytest.mark.parametrize("name", HOSTS)
def test_every_other_tensor_is_the_hosts_own(name: str, hosts, grafts) -> None:
    before, after = load(hosts(name)), load(grafts(name))
    new = {change.name for change in validate(grafts(name)).changed("new")}
    found, tower = after.model.state_dict(), f"{after.host.tower}."
    for key, tensor in before.model.state_dict().items():
        renewed = any(key.endswith(name.partition(".")[2]) or name.endswith(key) for name in new)
        if not key.startswith(tower) and not renewed:
            assert torch.equal(found[key], tensor), key
    unknown = found.keys() - before.model.state_dict().keys()
    assert all(key.startswith(tower) for key in unknown), unknown


@pytest.mark.parametrize("name", HOSTS)
def test_shards_that_mix_tower_and_language_model(name: str, hosts, donor: Path, grafts, tmp_path: Path) -> None:
    mixed = shutil.copytree(hosts(name), tmp_path / "mixed", ignore=shutil.ignore_patterns("*.safetensors*"))
    tensors: dict[str, torch.Tensor] = {}
    for path in hosts(name).glob("*.safetensors"):
        tensors |= load_file(path)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": sorted(tensors)[i::2] for i in range(2)}
    for shard, names in shards.items():
        assert 0 < sum(bool(re.match(get_host(name).tower_keys, key)) for key in names) < len(names)
        save_file({key: tensors[key] for key in names}, mixed / shard, {"format": "pt"})
    listed = {key: shard for shard, names in shards.items() for key in names}
    (mixed / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    graft_tower(get_host(name), mixed, donor, tmp_path / "graft")
    expected, found = (load(path).model.state_dict() for path in (grafts(name), tmp_path / "graft"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in found.items())


@pytest.mark.parametrize("name", HOSTS)
def test_the_tower_it_has_put_in_once_more_changes_no_logit(
    name: str, hosts, donor: Path, grafts, photographs: list[Path], tmp_path: Path
) -> None:
    loaded = load(grafts(name))
    tower = loaded.model.get_submodule(loaded.host.tower)
    own, header = tmp_path / "own.ckpt", read_header(donor)
    save_tower(own, getattr(tower, "donor", tower), header.preprocessing, header.pooling)
    graft_tower(get_host(name), hosts(name), own, tmp_path / "graft")
    images = [open_image(path) for path in photographs[:2]]
    assert [score.log_probs for score in letter_scores(tmp_path / "graft", *images)] == [
        score.log_probs for score in letter_scores(grafts(name), *images)
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_it_generates(name: str, grafts, photographs: list[Path]) -> None:
    loaded = load(grafts(name))
    inputs = loaded.processor(
        images=[open_image(photographs[0])], text=[loaded.host.prompt(QUESTION)], return_tensors="pt"
    )
    with torch.inference_mode():
        said = loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert said.shape[0] == 1
    assert said.shape[1] >= 1


@pytest.mark.parametrize("name", HOSTS)
def test_a_lora_step_changes_language_model_and_connector_and_nothing_else(name: str, grafts, tuned) -> None:
    before, after = load(grafts(name)), load(tuned(name))
    old, host = dict(before.model.named_parameters()), before.host
    changed = set()
    for key, tensor in after.model.named_parameters():
        plain = key.replace(".base_layer", "").replace(".modules_to_save.default", "")
        if "lora_B" in key and bool(tensor.any()):
            changed.add("lora")
        elif ".original_module." not in key and plain in old and not torch.equal(tensor, old[plain]):
            assert any(f".{part}." in f".{plain}" for part in host.connector), plain
            changed.add("connector")
    assert changed == {"lora", "connector"}


AGAIN = f"""
import sys, torch
from PIL import Image
sys.path.insert(0, {str(Path(__file__).parent)!r})
from scored_question import QUESTION, last_logits
from mllm_adapters.loading.load import load
threads, image, question, *directories = sys.argv[1:]
torch.set_num_threads(int(threads))  # sums in another order give other bits
for directory in directories:
    loaded = load(directory)
    print(last_logits(loaded, [Image.open(image)], [loaded.host.prompt(question)])[0].double().sum().item().hex())
"""


def logits_here(directory: Path, image: Path) -> str:
    loaded = load(directory)
    return last_logits(loaded, [Image.open(image)], [loaded.host.prompt(QUESTION)])[0].double().sum().item().hex()


def logits_in_a_fresh_process(directories: list[Path], image: Path, first: str = "") -> list[str]:
    command = ["-c", first + AGAIN, str(torch.get_num_threads()), str(image), QUESTION]
    done = launches.run([*command, *map(str, directories)])
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_reloaded_in_a_fresh_process_the_logits_are_the_same_bit_for_bit(tuned, photographs: list[Path]) -> None:
    said = logits_in_a_fresh_process([tuned(name) for name in HOSTS], photographs[0])
    assert dict(zip(HOSTS, said, strict=True)) == {name: logits_here(tuned(name), photographs[0]) for name in HOSTS}


@pytest.mark.parametrize("name", HOSTS)
def test_missing_surplus_and_misshapen_tensors_stop_with_their_names(
    name: str, hosts, donor: Path, tmp_path: Path
) -> None:
    out = tmp_path / "graft"
    graft_tower(get_host(name), hosts(name), donor, out, copy=True)
    path, index = out / TOWER_SHARD, out / "model.safetensors.index.json"
    whole, listed = load_file(path), json.loads(index.read_text())
    key = next(key for key in whole if key.endswith("post_layernorm.weight"))

    def write(tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path, {"format": "pt"})
        kept = {n: s for n, s in listed["weight_map"].items() if s != TOWER_SHARD} | dict.fromkeys(tensors, TOWER_SHARD)
        index.write_text(json.dumps(listed | {"weight_map": kept}))

    write({n: t for n, t in whole.items() if n != key})
    with pytest.raises(FormatError, match=r"missing_keys: \S*post_layernorm\.weight"):
        load(out)
    write(whole | {key + "_surplus": torch.zeros(2)})
    with pytest.raises(FormatError, match=r"unexpected_keys: \S*post_layernorm\.weight_surplus"):
        load(out)
    write(whole | {key: torch.zeros(5)})
    with pytest.raises(FormatError, match=r"post_layernorm\.weight"):
        load(out)


@pytest.mark.parametrize("name", HOSTS)
def test_the_untouched_host_is_scored_too(name: str, hosts, photographs: list[Path]) -> None:
    (score,) = letter_scores(hosts(name), open_image(photographs[0]))
    assert len(score.log_probs) == 4


@pytest.mark.parametrize("name", HOSTS)
def test_lora_stays_out_of_the_tower_of_the_untouched_host(name: str, hosts) -> None:
    from mllm_adapters.loading.lora import add_lora

    loaded = load(hosts(name))
    model = add_lora(loaded.model, loaded.host, FinetuneSettings(rank=2))
    lora = [key for key, parameter in model.named_parameters() if "lora_A" in key and parameter.requires_grad]
    assert lora
    assert not [key for key in lora if f".{loaded.host.tower}." in key]
