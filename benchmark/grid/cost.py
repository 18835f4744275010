"""What a grid of hosts and towers costs, before anything is downloaded or made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmark.grid.cells import PRETRAINED, SHOWN, GridCell, HostEntry, Table2Settings, finetuning
from mgll.configs import configs
from mgll.manifest.records import Split, read_manifest
from mgll.stage import is_finished
from mgll.training_cost import GB, PEAKS, CostSettings, cost, image_encoder_cost, text_encoder_cost
from mllm_adapters.demo.settings import TINY
from mllm_adapters.host_cost import PROMPT, host_cost
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.hub import DEMO

#: Parameters and image tokens of a tiny host, at most.
TINY_COST = (1.6e6, 36)


def cost_of(settings: Table2Settings, grid: Sequence[GridCell]) -> str:
    """What the grid would cost, host by host: GPU memory, hours and disk; and which of it is counted and which assumed.

    Raises:
        ValueError: if a host is neither on this machine nor described.
    """
    # here, because it takes a moment to import
    from pandas import DataFrame

    speed = PEAKS[settings.gpu] * CostSettings().utilisation * 3600
    learned, asked = _count(settings, "train"), _count(settings, "test") * len(SHOWN)
    to_do = [cell for cell in grid if not is_finished(Path(settings.out) / cell.path)]
    rows, stated = [], []
    for entry in settings.entries:
        known = TINY_COST if entry.checkpoint in (TINY, DEMO) else _stated(entry)
        finetune = finetuning(settings, entry, settings.seeds[0])
        found = host_cost(get_host(entry.host), _here(settings, entry), known, finetune, learned, asked)
        cells, hours = sum(cell.entry == entry for cell in to_do), found.operations / speed
        stated += [] if found.counted else [entry.host]
        row = {"": entry.host, "B parameters": found.parameters / 1e9, "image tokens": found.image_tokens}
        row |= {"GB of GPU": found.memory / GB, "h each": hours, "cells": cells, "h": cells * hours}
        rows.append({**row, "GB of disk": cells * found.disk / GB})
    for tower in (tower for tower in settings.towers if tower in PRETRAINED):
        hours, runs = _pretraining_hours(settings), len(settings.seeds)
        rows.append(
            {"": f"pretraining {tower}", "h each": hours, "cells": runs, "h": runs * hours, "GB of disk": runs * 1.2}
        )
    table = DataFrame(rows)
    lines = [
        f"{len(grid)} cells, {len(to_do)} to do; {learned:,} questions to learn, {asked:,} to answer in each cell",
        table.to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep="", columns=list(rows[0])),
        f"{table['h'].sum():,.1f} GPU hours on an {settings.gpu}, {table['GB of disk'].sum():,.1f} GB of disk",
        f"Estimates. Assumed: {CostSettings().utilisation:.0%} of the GPU's peak, prompts of {PROMPT} tokens beside the image,"
        " one tile an image. Checkpoints are not counted as disk: grafts share their shards by hard links.",
    ]
    if stated:
        lines.append(f"Not on this machine, so taken from the configuration and not counted: {', '.join(stated)}.")
    return "\n".join(lines)


def _stated(entry: HostEntry) -> tuple[float | None, int | None]:
    """Parameters and image tokens as the entry has them, else those of the published checkpoint in the shipped `table2.yaml`."""
    if entry.parameters is None and entry.checkpoint in (None, get_host(entry.host).checkpoint):
        shipped = yaml.safe_load(configs()["table2.yaml"].read_text(encoding="utf-8"))["hosts"]
        own: dict[str, Any] = next((host for host in shipped if host["host"] == entry.host), {})
        return (float(own["parameters"]), own["image_tokens"]) if own else (None, None)
    return entry.parameters, entry.image_tokens


def _count(settings: Table2Settings, split: Split) -> int:
    """Number of questions of a split; where the settings leave it open, one for every image and class of it."""
    given = settings.train_questions if split == "train" else settings.test_questions
    return given or sum(len(record.labels) for record in read_manifest(settings.manifest, split))


def _here(settings: Table2Settings, entry: HostEntry) -> Path | None:
    """The checkpoint of a host, if it is on this machine."""
    made = Path(settings.out) / "hosts" / entry.host
    if is_finished(made):
        return made
    return Path(entry.checkpoint) if entry.checkpoint and Path(entry.checkpoint).is_dir() and not entry.parts else None


def _pretraining_hours(settings: Table2Settings) -> float:
    """Hours of one pretraining, of as many images as the manifest has; of the paper's 246,389 where there is no manifest here."""
    run = settings.pretrain
    size = CostSettings(encoder=run.encoder, image_size=run.image_size, pooling=run.pooling, batch_size=run.batch_size)
    images = len(read_manifest(settings.manifest, "train")) if Path(settings.manifest).is_file() else size.images
    step = cost(replace(size, gpu=settings.gpu), image_encoder_cost(size), text_encoder_cost(size))
    return step.seconds * run.epochs * images / run.batch_size / 3600
