"""Loading."""

from mllm_adapters.loading.load import load, load_processor, model_class

__all__ = ["load", "load_processor", "model_class"]
