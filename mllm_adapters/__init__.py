"""Grafts: put a vision tower into a multimodal LLM, fine-tune it, ask it.

The names of `__init__.pyi` are loaded when they are first used: `import mllm_adapters` brings no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
