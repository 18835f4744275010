from .content import Board, Entry, build_board
from .pictures import Pictures
from .writing import write_board

__all__ = [
    "Board",
    "Entry",
    "Pictures",
    "build_board",
    "write_board",
]
