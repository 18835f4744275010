from .lmms_export import export
from .vlmevalkit import write_tsv

__all__ = [
    "export",
    "write_tsv",
]
