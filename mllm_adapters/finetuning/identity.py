"""What decides the outcome of a fine-tuning run, by content: only a run made of the very same is resumed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mgll.images.files import ImageError, image_exists, image_sha256
from mgll.kept_hashes import kept_sha256
from mgll.run_folder import refuse_another_run
from mgll.training.distributed import gather_entries
from mllm_adapters.contract.finetune_record import FINETUNE, read_finetune
from mllm_adapters.finetuning.texts import Example
from mllm_adapters.loading.load import shards_of
from mllm_adapters.settings import MAY_CHANGE, FinetuneSettings


def image_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of every image's bytes, in a file of its own or in a shard. Collective: the processes share the work.

    Raises:
        ImageError: naming the first images that are not there, and how many there are.
    """
    distinct = sorted(set(paths))
    if lacking := [str(path) for path in distinct if not image_exists(path)]:
        raise ImageError(f"{len(lacking)} of {len(distinct)} images are not there: {', '.join(lacking[:4])}")
    return _shared(distinct, image_sha256)


def _shared(paths: Sequence[Path], hashed: Callable[[Path], str]) -> dict[Path, str]:
    """The hash of every file, each computed by one of the processes."""
    several = dist.is_available() and dist.is_initialized()
    own = paths[dist.get_rank() :: dist.get_world_size()] if several else paths
    return gather_entries({path: hashed(path) for path in own})


def describe(
    base: Path,
    out: Path,
    settings: FinetuneSettings,
    hashes: Mapping[Path, str],
    examples: Mapping[str, Sequence[Example]],
) -> dict[str, Any]:
    """Describe everything that decides the outcome of a run; a run is resumed only under the same description. Collective.

    Args:
        base: directory of the host or graft.
        out: folder of the run.
        settings: those of the run.
        hashes: hash of every image.
        examples: `questions`, and what else is learnt or asked, by name.
    """
    deciding = {name: value for name, value in asdict(settings).items() if name not in MAY_CHANGE}
    if settings.decode == "exact":
        del deciding["decode"]  # as in runs from before there was a choice
    weights = _shared(shards_of(base), kept_sha256)
    others = {name: _digest(part, hashes) for name, part in examples.items() if name != "questions"}
    return {
        "base": os.path.relpath(base.resolve(), out.resolve()),
        "base_sha256": {shard.name: digest for shard, digest in sorted(weights.items())},
        "settings": deciding,
        "questions": _digest(examples["questions"], hashes),
        "others": others,
    }


def is_finished(out: Path, run: Mapping[str, Any]) -> bool:
    """Whether a folder holds this run, finished.

    Raises:
        ValueError: if it holds another one, finished.
    """
    if not (out / FINETUNE).is_file():
        return False
    refuse_another_run(out, read_finetune(out).model_dump(), run, "another run")
    return True


def _digest(examples: Sequence[Example], hashes: Mapping[Path, str]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for example in examples:
        content = {name: value for name, value in asdict(example).items() if name not in ("image", "group")}
        digest.update(json.dumps([hashes[example.image], *content.values()]).encode())
    images = len({example.image for example in examples})
    return {"count": len(examples), "images": images, "sha256": digest.hexdigest()}
