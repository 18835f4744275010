"""Mini gemini."""

from mllm_adapters.hosts.mini_gemini.host import HOST

__all__ = ["HOST"]
