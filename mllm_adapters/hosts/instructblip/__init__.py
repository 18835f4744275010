"""Instructblip."""

from mllm_adapters.hosts.instructblip.host import HOST

__all__ = ["HOST"]
