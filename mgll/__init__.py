"""MGLL pretraining: images and texts at several granularities in, a vision tower out.

The names of `__init__.pyi` are loaded when they are first used: `import mgll` brings no torch.
"""

import sys

if sys.platform == "win32":
    raise ImportError(
        "MGLL-graft runs on Linux and macOS: Windows cannot lock and sync files as runs need it; use WSL 2"
    )

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
