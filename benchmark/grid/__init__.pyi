from .cells import GridCell, HostEntry, Table2Settings, grid_of
from .cost import cost_of

__all__ = [
    "GridCell",
    "HostEntry",
    "Table2Settings",
    "cost_of",
    "grid_of",
]
