"""Reports of one run, of two that are compared, or of any number side by side: pages, Markdown, LaTeX, Excel, CSV, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
