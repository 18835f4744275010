"""The README.md of an exported folder: what the model is, what it was made of, how it is loaded, and what it is not for."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from mllm_adapters.contract.finetune_record import FinetuneRecord
from mllm_adapters.contract.graft_record import Graft
from mllm_adapters.contract.host import Host

NOTICE = "Research use only, not for diagnosis."


def made_of(host: Host, graft: Graft | None, tuned: FinetuneRecord | None) -> dict[str, Any]:
    """What a model was made of, without a path of the machine on which it was made: host, tower, questions, versions."""
    found: dict[str, Any] = {"host": host.name, "host_checkpoint": _last(graft.source) if graft else None}
    if graft and graft.donor:
        origin = {key: graft.donor.origin[key] for key in ("objective", "encoder") if key in graft.donor.origin}
        found["tower"] = {"file": _last(graft.donor.path), "sha256": graft.donor.sha256, **origin}
        found["token_policy"] = graft.settings.tokens
    if tuned:
        found["questions"], found["others"], found["trained"] = tuned.questions, tuned.others, tuned.trained
        found["weights_before"] = tuned.base_sha256
        found["settings"] = {key: value for key, value in tuned.settings.items() if not _is_place(value)}
    return found


def _last(name: str) -> str:
    """A hub id as it is; of a path its last part, because the rest says something about a machine or a person."""
    is_path = name.startswith(("/", ".", "~")) or name.count("/") != 1 or "\\" in name or Path(name).exists()
    return Path(name).name if is_path else name


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and "/" in value


def write_readme(out: Path, host: Host, facts: dict[str, Any], loads: Sequence[str], remarks: Sequence[str]) -> None:
    """Write README.md with the head that the hub reads.

    Args:
        out: the folder.
        host: the family.
        facts: from `made_of`.
        loads: lines of Python that load the model.
        remarks: further sentences.
    """
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        license="other",
        tags=["medical", "research-only", "not-for-diagnosis", "mgll-graft"],
    )
    lines = ["---", data.to_yaml(), "---", "", f"# {title(host, facts)}", "", f"**{NOTICE}**", ""]
    lines += [f"- {line}" for line in sentences(host, facts)]
    lines += ["- licence: that of the host and of the data on which tower and questions were trained"]
    lines += [f"- tried with transformers {version('transformers')}", ""]
    lines += ["```python", *loads, "```", ""]
    lines += [f"- {remark}" for remark in remarks] + [""] * bool(remarks)
    lines.append("`export.json` says all of this for programs. Written by MGLL-graft.")
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def title(host: Host, facts: dict[str, Any]) -> str:
    """What the model is, in a few words."""
    tower = " with another vision tower" if "tower" in facts else ""
    return f"{host.title}{tower}{', fine-tuned' if 'questions' in facts else ''}"


def sentences(host: Host, facts: dict[str, Any]) -> list[str]:
    """What the model was made of, a line each."""
    lines = [f"host: {host.title}" + (f", {facts['host_checkpoint']}" if facts["host_checkpoint"] else "")]
    if "tower" in facts:
        tower = facts["tower"]
        lines.append(
            f"vision tower: `{tower['file']}`, SHA-256 `{tower['sha256']}`; token policy {facts['token_policy']}"
        )
    else:
        lines.append("vision tower: the host's own")
    if "questions" in facts:
        questions, trained = facts["questions"], facts["trained"]
        counts = ", ".join(f"{count:,} of the {part.replace('_', ' ')}" for part, count in trained.items() if count)
        lines.append(
            f"tuned on {questions['count']} questions, SHA-256 `{questions['sha256']}`; trained parameters: {counts}"
        )
        lines += [f"{name.replace('_', ' ')}: {said}" for name, said in facts["others"].items()]
    return lines
