"""The tiny hosts of the adapters' tests, stirred so that image and words decide what they answer, and a graft on one."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel

from mgll.images.preprocessing import Preprocessing
from mgll.tower.file import save_tower
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.hosts.registry import get_host

sys.path.append(str(Path(__file__).parents[1] / "mllm_adapters"))
from tiny.any_host import save_tiny


def stirred_host(name: str, directory: Path) -> Path:
    """One of `tests/mllm_adapters/tiny`."""
    return stir(save_tiny(name, directory))


def stirred_graft(directory: Path) -> Path:
    """A LLaVA with a tower of another width."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **sizes))
    seen = Preprocessing(size=32, resize="pad", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    save_tower(directory / "mgll.ckpt", tower, seen)
    host = save_tiny("llava", directory / "host")
    graft_tower(get_host("llava"), host, directory / "mgll.ckpt", directory / "graft", copy=True)
    return stir(directory / "graft")


def stir(directory: Path) -> Path:
    """Add noise to all weights, and make letters and the end of a text likely."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    likely = [*tokenizer.convert_tokens_to_ids([f"Ġ{letter}" for letter in "ABCD"]), tokenizer.eos_token_id]
    noise = torch.Generator().manual_seed(0)
    for path in sorted(directory.glob("*.safetensors")):
        tensors = load_file(path)
        for key, tensor in tensors.items():
            tensor += 0.2 * torch.randn(tensor.shape, generator=noise)
            if key.endswith("lm_head.weight"):
                tensor[likely] *= 5
        save_file(tensors, path, {"format": "pt"})
    return directory
