"""Qwen vl."""

from mllm_adapters.hosts.qwen_vl.host import HOST

__all__ = ["HOST"]
