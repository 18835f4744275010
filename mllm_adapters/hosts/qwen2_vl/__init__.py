"""Qwen2 vl."""

from mllm_adapters.hosts.qwen2_vl.host import HOST

__all__ = ["HOST"]
