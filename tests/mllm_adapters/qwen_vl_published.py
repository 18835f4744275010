"""A tiny Qwen-VL-Chat as it lies on the hub: true names, `.bin` shards cut as published, tokenizer as byte pairs."""

import base64
import json
from pathlib import Path

import torch
from qwen_vl_numbers import CONFIG, published_tensors

from mllm_adapters.hosts.qwen_vl.tokenizer import BYTE_PAIRS

MERGED = [b"th", b"the", b" the", b"in", b"ing", b"12", "é".encode(), b"\n\n", b" A", b"'s"]


def write_byte_pairs(directory: Path) -> Path:
    """All bytes, then a few merges; the published file is the same with 151,387 of them."""
    tokens = [bytes([byte]) for byte in range(256)] + MERGED
    lines = [base64.b64encode(token) + f" {rank}".encode() for rank, token in enumerate(tokens)]
    path = directory / BYTE_PAIRS
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def save_published(directory: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Write it; the middle shard holds decoder and tower, as the eighth of ten does on the hub. Returns its tensors."""
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors().items()}
    shards: dict[str, dict[str, torch.Tensor]] = {f"pytorch_model-0000{i}-of-00003.bin": {} for i in (1, 2, 3)}
    first, middle, last = shards.values()
    for name, tensor in tensors.items():
        late = "attn_pool" in name or "ln_post" in name or "resblocks.1." in name or name.startswith("lm_head")
        early = name.startswith(("transformer.wte", "transformer.h.0."))
        (last if late else first if early else middle)[name] = tensor
    for name, content in shards.items():
        torch.save(content, directory / name)
    weight_map = {name: shard for shard, content in shards.items() for name in content}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    remote = {"auto_map": {"AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"}}
    (directory / "config.json").write_text(json.dumps({**CONFIG, **remote, "torch_dtype": str(dtype)[6:]}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "QWenTokenizer"}))
    (directory / "generation_config.json").write_text(json.dumps({"chat_format": "chatml", "eos_token_id": 151643}))
    write_byte_pairs(directory)
    return tensors
