"""The tiny host of any family."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save_file


def builder_of(name: str) -> ModuleType:
    """The module that builds the tiny host of this family: `tiny/` and the registry's name, in letters of a module's name."""
    return importlib.import_module(f"tiny.{_plain(name)}")


def save_tiny(name: str, directory: Path) -> Path:
    """Write the tiny host of this family by its builder's function `save_` and the builder's name."""
    getattr(builder_of(name), f"save_{_plain(name)}")(directory)
    return directory


def store_as(dtype: torch.dtype, directory: Path) -> Path:
    """Turn the weights of a host's folder into another precision."""
    for shard in directory.glob("*.safetensors"):
        save_file({name: tensor.to(dtype) for name, tensor in load_file(shard).items()}, shard, {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"dtype": str(dtype).removeprefix("torch.")}))
    return directory


def _plain(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
