"""What tower files say of themselves, in sentences for a card: the architecture, how they were trained, and on what."""

from collections.abc import Mapping, Sequence
from typing import Any

from mgll.evaluation.towers import Tower
from mgll.tower.file import TowerHeader, read_header


def about_towers(towers: Sequence[Tower]) -> dict[str, list[str]]:
    """Name of a tower -> what the headers of all towers of this name say, each sentence once."""
    found: dict[str, dict[str, None]] = {}
    for tower in towers:
        if tower.path:
            found.setdefault(tower.name, {}).update(dict.fromkeys(_said(read_header(tower.path))))
    return {name: list(said) for name, said in found.items()}


def _said(header: TowerHeader) -> list[str]:
    shape, own = header.geometry, header.preprocessing
    said = [
        f"Architecture: {header.config.get('model_type', 'unknown')}, {shape.width} channels, images of {own.size} pixels a side"
        f" ({own.resize}), pooled by {header.pooling}."
    ]
    origin = header.origin
    settings: Mapping[str, Any] = origin.get("settings") or {}
    if settings:
        start = settings.get("start_weights") or settings.get("encoder")
        said.append(
            f"Pretraining: objective {settings.get('objective')}, {settings.get('epochs')} epochs, batches of"
            f" {settings.get('batch_size')}, learning rate {settings.get('learning_rate')}, from {start}, seed"
            f" {settings.get('seed')}."
        )
    else:
        said.append(f"Origin: {', '.join(f'{name} {value}' for name, value in origin.items()) or 'not said'}.")
    if seen := origin.get("images_seen"):
        unknown = f"; not known: {seen['not_known']}" if seen.get("not_known") else ""
        said.append(f"Images seen in pretraining: {seen['images']:,}{unknown}.")
    if side := header.text_side:
        levels = ", ".join(side.levels)
        said.append(f"Texts: encoder {side.encoder}, levels {levels}, temperature {side.temperature:.3g}.")
    return said
