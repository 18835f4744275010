"""Llava."""

from mllm_adapters.hosts.llava.host import HOST

__all__ = ["HOST"]
