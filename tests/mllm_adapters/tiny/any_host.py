"""The tiny host of any family."""

import importlib
from pathlib import Path

from mllm_adapters.hosts.registry import HOSTS


def save_tiny(name: str, directory: Path) -> Path:
    """Write the tiny host of this family; its builder is `tiny/<module>.py: save_<module>`."""
    module = HOSTS[name].rpartition(".")[2]
    builder = importlib.import_module(f"tiny.{module}")
    save = getattr(builder, f"save_{name.replace('-', '_').replace('.', '_')}", None) or getattr(
        builder, f"save_{module}"
    )
    save(directory)
    return directory
