from .content import Board, Entry, build_board
from .writing import write_board

__all__ = [
    "Board",
    "Entry",
    "build_board",
    "write_board",
]
