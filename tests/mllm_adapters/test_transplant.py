"""Grafting: what is on disk afterwards, and what plain transformers makes of it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from donors import donor_model, save_donor
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from mgll.images.preprocessing import Preprocessing, open_image, preprocess
from mgll.tower.file import load_tower, read_header, save_tower
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.terms import GraftSettings, HostError
from mllm_adapters.contract.token_policy import resize_grid
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.graft.weights import TOWER_SHARD
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.loading.load import load

HOST = get_host("llava")
PLAIN = """
import sys, torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration
try:
    import mllm_adapters
except ImportError:
    pass
else:
    sys.exit("our package can be imported, so this proves nothing")
torch.set_num_threads(1)
for directory, out in zip(sys.argv[1::2], sys.argv[2::2]):
    model, info = LlavaForConditionalGeneration.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()), info
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, out)
"""


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def in_memory(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Donor tensors by their names in a LLaVA."""
    return {f"model.vision_tower.{name}": tensor for name, tensor in tensors.items()}


def in_plain_transformers(pairs: list[tuple[Path, Path]]) -> None:
    """Write all tensors of each directory after `from_pretrained` in a process that cannot see this repository."""
    command = [sys.executable, "-I", "-c", BLOCK_US + PLAIN, *(str(path) for pair in pairs for path in pair)]
    subprocess.run(command, check=True, cwd=pairs[0][1].parent, timeout=200)


# an editable install puts the repository on the path by a finder of its own; take it away before anything is imported
BLOCK_US = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [entry for entry in sys.path if "editable" not in entry]
"""


@pytest.mark.slow
def test_every_tensor_after_a_plain_load(
    mixed_shards: Callable[[str], Path], make_tower: Callable[..., Path], host_model, tmp_path: Path
) -> None:
    encoder, pairs = make_tower(), []
    for names in ("legacy", "current", "single"):
        source, out = mixed_shards(names), tmp_path / f"graft-{names}"
        before = snapshot(source)
        record = graft_tower(HOST, source, encoder, out)
        assert snapshot(source) == before
        assert record.connector_needs_training
        assert {change.change for change in record.tensors} == {"replaced"}
        assert validate(out) == record
        pairs.append((out, tmp_path / f"{names}.safetensors"))
    siglip = (tmp_path / "graft-siglip", tmp_path / "siglip.safetensors")
    graft_tower(HOST, tmp_path / "host-legacy", save_donor("siglip", tmp_path / "siglip.ckpt"), siglip[0])
    in_plain_transformers([*pairs, siglip])
    expected = host_model.state_dict() | in_memory(load_tower(encoder)[0].state_dict())
    for _, path in pairs:
        found = load_file(path)
        assert found.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    found = load_file(siglip[1])
    expected = in_memory(donor_model("siglip").state_dict())
    assert {name for name in found if ".vision_tower." in name} == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_no_file_keeps_an_old_tensor_and_untouched_shards_are_links(
    mixed_shards: Callable[[str], Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    source = mixed_shards("legacy")
    graft_tower(HOST, source, make_tower(), tmp_path / "graft")
    for path in (tmp_path / "graft").glob("*.safetensors"):
        towers = [name for name in load_file(path) if "vision_tower" in name]
        assert bool(towers) == (path.name == TOWER_SHARD)
    pure = "model-00003-of-00003.safetensors"
    assert (tmp_path / "graft" / pure).samefile(source / pure)
    graft_tower(HOST, source, make_tower(), tmp_path / "copied", copy=True)
    assert not (tmp_path / "copied" / pure).samefile(source / pure)


def test_the_hosts_own_tower_changes_no_logit(
    host_directory: Path, host_model, photographs: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own.ckpt"
    save_tower(own, host_model.model.vision_tower, Preprocessing(size=24))
    record = graft_tower(HOST, host_directory, own, tmp_path / "graft")
    assert not record.connector_needs_training
    assert all(change.sha256 == change.before for change in record.tensors)
    host, grafted = load(host_directory), load(tmp_path / "graft")
    assert torch.equal(logits(host, photographs), logits(grafted, photographs))


def logits(loaded, photographs: list[Path]) -> torch.Tensor:
    images = [open_image(path) for path in photographs[:2]]
    prompts = [HOST.prompt(f"What is {i}?") for i in range(2)]
    inputs = loaded.processor(images=images, text=prompts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return loaded.model(**inputs).logits


@pytest.mark.parametrize(
    ("policy", "size", "tokens", "image"),
    [
        ("native", 16, 4, 16),
        ("resize_posemb", 16, 9, 24),
        ("resize_features", 16, 9, 16),
        ("resize_features", 40, 9, 40),
    ],
)
def test_token_policies(
    policy: str,
    size: int,
    tokens: int,
    image: int,
    host_directory: Path,
    make_tower: Callable[..., Path],
    photographs: list[Path],
    tmp_path: Path,
) -> None:
    encoder, out = make_tower(size=size), tmp_path / "graft"
    record = graft_tower(HOST, host_directory, encoder, out, GraftSettings(tokens=policy))
    assert (record.features, record.placeholders) == (tokens, tokens)
    assert record.loads_in == ("mllm_adapters.load" if policy == "resize_features" else "transformers")
    loaded = load(out)
    inputs = loaded.processor(images=open_image(photographs[0]), text=HOST.prompt("What?"), return_tensors="pt")
    assert inputs["pixel_values"].shape[-1] == image
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == tokens

    donor = load_tower(encoder)[0]
    with torch.inference_mode():
        seen = loaded.model.model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        resized = image != size
        states = donor(
            inputs["pixel_values"], output_hidden_states=True, interpolate_pos_encoding=resized
        ).hidden_states
        features = states[-2][:, 1:]
        if policy == "resize_features":
            features = resize_grid(features, 3)
        assert torch.equal(seen, loaded.model.model.multi_modal_projector(features)[0])
        answer = loaded.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert answer.shape[1] <= inputs["input_ids"].shape[1] + 2
    if policy == "resize_features":
        assert_plain_transformers_says_no(out)


def assert_plain_transformers_says_no(directory: Path) -> None:
    """The stock class finds none of its tower's tensors: it must say so, whoever looks."""
    _, said = LlavaForConditionalGeneration.from_pretrained(directory, output_loading_info=True)
    assert any("vision_tower" in name for name in said["missing_keys"])
    assert any("donor" in name for name in said["unexpected_keys"])


def test_the_pooled_policy_gives_one_token_the_feature_that_was_trained(
    host_directory: Path, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    encoder, out = make_tower(size=16), tmp_path / "graft"
    record = graft_tower(HOST, host_directory, encoder, out, GraftSettings(tokens="pooled"))
    assert (record.features, record.placeholders, record.loads_in) == (1, 1, "mllm_adapters.load")
    assert record.tower is not None
    assert (record.tower.tokens, record.tower.pooling) == ("pooled", "cls")
    loaded = load(out)
    inputs = loaded.processor(images=open_image(photographs[0]), text=HOST.prompt("What?"), return_tensors="pt")
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == 1
    donor = load_tower(encoder)[0]
    with torch.inference_mode():
        seen = loaded.model.model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        trained = donor(inputs["pixel_values"]).pooler_output
        assert torch.equal(seen, loaded.model.model.multi_modal_projector(trained))
        assert loaded.model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 1
    with pytest.raises(HostError, match="graft onto its host instead"):
        graft_tower(HOST, out, encoder, tmp_path / "again")
    assert_plain_transformers_says_no(out)


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
def test_the_processor_does_what_the_tower_was_trained_with(
    resize: str, host_directory: Path, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    encoder = make_tower(resize=resize)
    graft_tower(HOST, host_directory, encoder, tmp_path / "graft")
    processor = LlavaProcessor.from_pretrained(tmp_path / "graft")
    for path in photographs[:3]:
        found = processor.image_processor(images=open_image(path), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(found, preprocess(open_image(path), read_header(encoder).preprocessing))


def test_another_width_makes_the_first_layer_new(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = make_tower(hidden_size=24, num_hidden_layers=2)
    record = graft_tower(HOST, host_directory, encoder, tmp_path / "graft", GraftSettings(seed=5))
    assert [change.name for change in record.changed("new")] == [
        "multi_modal_projector.linear_1.bias",
        "multi_modal_projector.linear_1.weight",
    ]
    assert len(record.changed("dropped")) == 16  # the third block
    assert load(tmp_path / "graft").model.model.multi_modal_projector.linear_1.weight.shape == (32, 24)
    again = graft_tower(HOST, host_directory, encoder, tmp_path / "again", GraftSettings(seed=5))
    other = graft_tower(HOST, host_directory, encoder, tmp_path / "other", GraftSettings(seed=6))
    assert again.tensors == record.tensors != other.tensors
    assert snapshot(tmp_path / "again").keys() == snapshot(tmp_path / "graft").keys()


def test_feature_layer_and_class_token_are_settings(
    host_directory: Path, make_tower: Callable[..., Path], photographs: list[Path], tmp_path: Path
) -> None:
    settings = GraftSettings(feature_layer=-1, feature_select="full")
    record = graft_tower(HOST, host_directory, make_tower(), tmp_path / "graft", settings)
    assert record.features == 10
    assert logits(load(tmp_path / "graft"), photographs).isfinite().all()


def test_half_precision_hosts_get_half_precision_towers(
    host_directory: Path, make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(host_directory, half)
    LlavaForConditionalGeneration.from_pretrained(host_directory, dtype=torch.float16).save_pretrained(half)
    for shard in half.glob("model-*-of-*"):
        if shard.name not in (half / "model.safetensors.index.json").read_text():
            shard.unlink()
    graft_tower(HOST, half, make_tower(), tmp_path / "graft")
    assert {part.dtype for part in read_checkpoint(tmp_path / "graft").values()} == {"F16"}
