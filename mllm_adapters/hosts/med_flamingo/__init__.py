"""Med flamingo."""

from mllm_adapters.hosts.med_flamingo.host import HOST

__all__ = ["HOST"]
