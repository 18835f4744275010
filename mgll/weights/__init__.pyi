from .finite import check_finite
from .model_folder import check_entries, read_json
from .reading import misfits, read_weights
from .stored import Stored, read_stored

__all__ = [
    "Stored",
    "check_entries",
    "check_finite",
    "misfits",
    "read_json",
    "read_stored",
    "read_weights",
]
