from .json_files import read_json
from .tensors import read_checkpoint

__all__ = [
    "read_checkpoint",
    "read_json",
]
