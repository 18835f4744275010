from .own_tower import regraft_own_tower
from .source import open_source
from .transplant import convert_host, graft_tower, plan_graft
from .validation import validate

__all__ = [
    "convert_host",
    "graft_tower",
    "open_source",
    "plan_graft",
    "regraft_own_tower",
    "validate",
]
