"""A host, graft or fine-tuned directory as a folder that plain transformers reads, or as a base and a PEFT adapter beside it."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import save_torch_state_dict

from mgll.files import atomic_path
from mgll.formats import FormatError
from mgll.provenance import provenance
from mgll.weights.model_folder import read_json
from mllm_adapters.contract.finetune_record import FINETUNE, read_finetune
from mllm_adapters.contract.graft_record import GRAFT, read_graft
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.contract.terms import HostError
from mllm_adapters.export.card import made_of, write_readme
from mllm_adapters.export.chat_template import chat_template
from mllm_adapters.export.definitions import is_own
from mllm_adapters.export.merging import dtypes_of, is_finite, merge, write_adapter
from mllm_adapters.export.remote_code import needs_code, write_code
from mllm_adapters.export.stock import make_stock
from mllm_adapters.loading.load import load

EXPORT, SCHEMA = "export.json", "mgll.export/1"
BASE, ADAPTER = "base", "adapter"
Form = Literal["merged", "peft"]


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        out: the folder.
        form: `merged`, one checkpoint; `peft`, the checkpoint in `base` and LoRA in `adapter`.
        model_class: name of the class that plain transformers builds.
        code: names of the files of code beside it, which need `trust_remote_code=True`; empty where the class is transformers' own.
        dtypes: number of weights by dtype.
        remarks: what a user has to know, a sentence each.
    """

    out: Path
    form: Form
    model_class: str
    code: tuple[str, ...]
    dtypes: dict[str, int]
    remarks: tuple[str, ...]


def export_model(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    form: Form = "merged",
    dtype: str = "auto",
    max_shard_size: str = "5GB",
) -> Exported:
    """Write a model in a form that needs nothing of this package. `out` appears whole or not at all; `directory` is only read.

    Args:
        directory: a host, a graft, or a directory that fine-tuning wrote.
        out: folder to write; an earlier export there is replaced, anything else is refused.
        form: `merged`: one checkpoint. `peft`: the language model's LoRA as an adapter, all else that was trained in its base.
        dtype: dtype of the weights; `auto` keeps the host's. LoRA is added up in float32 in any case.
        max_shard_size: size at which a file of weights ends, such as `5GB`.

    Raises:
        FormatError: if the directory is no whole model, or the merged weights are no numbers in this dtype.
        HostError: if `out` holds anything but an earlier export, the size is none, or there is no LoRA for an adapter.
    """
    directory, out = Path(directory), Path(out)
    _check_out(out, directory)
    _check_size(max_shard_size)
    tuned = read_finetune(directory) if (directory / FINETUNE).is_file() else None
    if form == "peft" and not (tuned and tuned.run.rank):
        raise HostError(f"{directory} has no LoRA that an adapter could hold; leave --form peft away")
    base = directory / tuned.base if tuned else directory
    loaded = load(directory, dtype=dtype)
    graft = read_graft(base) if (base / GRAFT).is_file() else None
    layers = merge(loaded.model, loaded.host, keep_lora=form == "peft") if tuned else []
    if not is_finite(loaded.model):
        raise FormatError(
            directory, None, "the merged weights leave the range of their dtype; take --dtype bfloat16 or float32"
        )
    spec = graft.tower if graft else None
    if spec is not None and make_stock(loaded, spec):
        spec = None
    if tuned or not getattr(loaded.processor, "chat_template", None):
        template = chat_template(loaded.host, loaded.processor.tokenizer)
        loaded.processor.chat_template = loaded.processor.tokenizer.chat_template = template
    facts = made_of(loaded.host, graft, tuned)
    with atomic_path(out) as folder:
        place = folder / BASE if form == "peft" else folder
        place.mkdir(parents=True)
        code = _write_model(loaded, spec, place, max_shard_size)
        remarks = _remarks(loaded, code)
        if tuned and tuned.run.quantize != "no":
            remarks.append(
                f"trained over a language model in {tuned.run.quantize}, and added to its whole weights: answers differ a little"
            )
        if form == "peft":
            config = write_adapter(directory, layers, loaded.model, folder / ADAPTER)
            if not code:
                remarks.append(_served(config.r))
            if config.use_dora:
                remarks.append(
                    "the adapter is DoRA, which PEFT reads and neither vLLM nor SGLang does: for them export without --form peft"
                )
        write_readme(folder, loaded.host, facts, _lines(form, bool(code)), remarks)
        named = read_json(place / "config.json")["architectures"][0]
        content = {"schema": SCHEMA, "form": form, "model_class": named, "code": code, "made_of": facts}
        content |= {"files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())}
        content |= {"provenance": provenance()}
        (folder / EXPORT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Exported(out, form, named, tuple(code), dtypes_of(loaded.model), tuple(remarks))


def _check_out(out: Path, directory: Path) -> None:
    if out.resolve() == directory.resolve() or directory.resolve().is_relative_to(out.resolve()):
        raise HostError(f"--out {out} is, or holds, the model itself, which is never changed; choose another folder")
    if out.exists() and not out.is_dir():
        raise HostError(f"--out {out} is a file")
    if out.is_dir() and (found := {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}):
        known = {*read_json(out / EXPORT).get("files", ()), EXPORT} if (out / EXPORT).is_file() else set()
        if foreign := sorted(found - known):
            raise HostError(
                f"--out {out} holds files that no export wrote ({', '.join(foreign[:4])}); choose another folder"
            )


def _check_size(max_shard_size: str) -> None:
    if not (match := re.fullmatch(r"(\d+)(KB|MB|GB|TB)", max_shard_size)) or not int(match[1]):
        raise HostError(f"--max-shard-size {max_shard_size}: give a number and KB, MB, GB or TB, such as 5GB")


def _write_model(loaded: LoadedHost, spec: Any, out: Path, max_shard_size: str) -> list[str]:
    """Write weights, configuration and processor; returns the names of the files of code."""
    model, processor = loaded.model, loaded.processor
    processor.save_pretrained(out)
    if not needs_code(loaded, spec):
        model.save_pretrained(out, max_shard_size=max_shard_size)
        _name_stock_processor(processor, out)
        return []
    model.config.save_pretrained(out)
    if model.can_generate():
        model.generation_config.save_pretrained(out)
    # under the names that the model itself uses: transformers renames nothing for classes that it does not know
    save_torch_state_dict(model.state_dict(), out, max_shard_size=max_shard_size, metadata={"format": "pt"})
    return write_code(loaded, spec, out)


def _name_stock_processor(processor: Any, out: Path) -> None:
    """Name transformers' own class in the files of a processor that ours replaces."""
    kinds = [kind for kind in type(processor).__mro__ if not is_own(kind.__module__)]
    for path in out.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if (
            isinstance(content, dict)
            and content.get("processor_class") == type(processor).__name__ != kinds[0].__name__
        ):
            content["processor_class"] = kinds[0].__name__
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _remarks(loaded: LoadedHost, code: list[str]) -> list[str]:
    remarks = []
    if code:
        remarks.append(
            "no class of transformers holds this model, so its code lies beside it and trust_remote_code=True runs it;"
            " vLLM and SGLang have no such class either"
        )
    elif is_own(type(loaded.processor).__module__):
        remarks.append(
            "give transformers' processor one question at a time: it pads a batch of them otherwise than this model expects"
        )
    return remarks


def _served(rank: int) -> str:
    return (
        f"`vllm serve FOLDER/base --enable-lora --max-lora-rank {rank} --lora-modules tuned=FOLDER/adapter`, or"
        " `python -m sglang.launch_server --model-path FOLDER/base --enable-lora --lora-paths tuned=FOLDER/adapter`"
    )


def _lines(form: Form, code: bool) -> list[str]:
    trust = ", trust_remote_code=True" if code else ""
    base = '"FOLDER/base"' if form == "peft" else '"FOLDER"'
    lines = [
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        f"model = AutoModelForImageTextToText.from_pretrained({base}{trust})",
        f"processor = AutoProcessor.from_pretrained({base}{trust})",
    ]
    if form == "peft":
        lines[0:0] = ["from peft import PeftModel"]
        lines.append('model = PeftModel.from_pretrained(model, "FOLDER/adapter")')
    return lines
