"""Grafting: what is on disk afterwards, and what plain transformers makes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from mgll.formats import FormatError
from mgll.preprocessing import preprocess
from mgll.tower import load_tower, read_header, save_tower
from mllm_adapters.graft import read_graft, validate
from mllm_adapters.host import GraftSettings, HostError
from mllm_adapters.llava import HOST
from mllm_adapters.loading import load
from mllm_adapters.transplant import TOWER_SHARD, graft

PLAIN = """
import json, sys, torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration
try:
    import mllm_adapters
except ImportError:
    pass
else:
    sys.exit("our package can be imported, so this proves nothing")
torch.set_num_threads(1)
model, info = LlavaForConditionalGeneration.from_pretrained(sys.argv[1], output_loading_info=True)
assert not any(info.values()), info
save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, sys.argv[2])
"""


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def in_memory(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Donor tensors by their names in a LLaVA."""
    return {f"model.vision_tower.{name}": tensor for name, tensor in tensors.items()}


def in_plain_transformers(directory: Path, out: Path) -> dict[str, torch.Tensor]:
    """All tensors after `from_pretrained` in a process that cannot see this repository."""
    command = [sys.executable, "-I", "-c", BLOCK_US + PLAIN, str(directory), str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=out.parent, env=environment, timeout=120)
    return load_file(out)


# an editable install puts the repository on the path by a finder of its own; take it away before anything is imported
BLOCK_US = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [entry for entry in sys.path if "editable" not in entry]
"""


@pytest.mark.parametrize("names", ["legacy", "current", "single"])
def test_every_tensor_after_a_plain_load(
    names: str, mixed_shards: Callable[[str], Path], make_tower: Callable[..., Path], host_model, tmp_path: Path
) -> None:
    source, encoder = mixed_shards(names), make_tower()
    before = snapshot(source)
    record = graft(HOST, source, encoder, tmp_path / "graft")

    found = in_plain_transformers(tmp_path / "graft", tmp_path / "tensors.safetensors")
    expected = host_model.state_dict() | in_memory(load_tower(encoder)[0].state_dict())
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert snapshot(source) == before
    assert record.connector_needs_training
    assert {change.change for change in record.tensors} == {"replaced"}
    assert validate(tmp_path / "graft") == record


def test_no_file_keeps_an_old_tensor_and_untouched_shards_are_links(
    mixed_shards: Callable[[str], Path], make_tower: Callable[..., Path], tmp_path: Path
) -> None:
    source = mixed_shards("legacy")
    graft(HOST, source, make_tower(), tmp_path / "graft")
    for path in (tmp_path / "graft").glob("*.safetensors"):
        towers = [name for name in load_file(path) if "vision_tower" in name]
        assert bool(towers) == (path.name == TOWER_SHARD)
    pure = "model-00003-of-00003.safetensors"
    assert (tmp_path / "graft" / pure).samefile(source / pure)
    graft(HOST, source, make_tower(), tmp_path / "copied", copy=True)
    assert not (tmp_path / "copied" / pure).samefile(source / pure)
