"""Graft."""

from mllm_adapters.graft.validation import validate

__all__ = ["validate"]
