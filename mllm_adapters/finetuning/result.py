"""The result of a fine-tuning run: adapter, connector, what the tower learnt, and a record that is written last."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.files import atomic_path, write_text
from mgll.provenance import provenance
from mllm_adapters.checkpoints.model_card import write_card
from mllm_adapters.contract.finetune_record import FINETUNE, FinetuneRecord
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.loop import CHECKPOINTS, Trained
from mllm_adapters.loading.lora import connector_parameters, save_trained

RUN = "run.json"


def write_result(
    out: Path,
    made_of: Mapping[str, Any],
    model: Any,
    loaded: LoadedHost,
    trained: Trained,
    letters: tuple[int, ...],
) -> None:
    """Write trained weights as plain safetensors, then the record that marks the run as finished.

    Args:
        out: folder of the run.
        made_of: what decided it.
        model: the model with LoRA, whose own weights are not looked at.
        loaded: the same without.
        trained: whole trained weights.
        letters: token ids of the letters A to D.
    """
    adapter = out / ".adapter"
    with atomic_path(adapter) as temporary:
        save_trained(model, trained.tensors, temporary, made_of["base"])
    for path in adapter.iterdir():
        path.replace(out / path.name)
    adapter.rmdir()
    facts = [
        f"base: {made_of['base']}",
        f"trained on {made_of['questions']['count']} questions",
        f"everything else: {FINETUNE}",
    ]
    write_card(out, f"{loaded.host.title}, fine-tuned on four-option questions", facts)
    record = FinetuneRecord(
        schema="mgll.finetune/1",
        host=loaded.host.name,
        trained=_counts(model, loaded, trained),
        supervised=letters,
        dtype=loaded.dtype,
        validation=trained.best,
        provenance=provenance(),
        **made_of,
    )
    write_text(out / FINETUNE, record.model_dump_json(by_alias=True, indent=2) + "\n")
    (out / RUN).unlink()
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _counts(model: Any, loaded: LoadedHost, trained: Trained) -> dict[str, int]:
    """Number of trained weights in language model, connector and tower."""
    connector, inside = connector_parameters(model, loaded.host), f".{loaded.host.tower}."
    counts = {"language_model": 0, "connector": 0, "tower": 0}
    for name, tensor in trained.tensors.items():
        part = "connector" if name in connector else "tower" if inside in f".{name}" else "language_model"
        counts[part] += tensor.numel()
    return counts
