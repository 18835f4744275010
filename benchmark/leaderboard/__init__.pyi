from .ablation import AblationResult, ablation_result, write_ablation
from .content import Board, Entry, build_board
from .pictures import Pictures
from .writing import write_board

__all__ = [
    "AblationResult",
    "Board",
    "Entry",
    "Pictures",
    "ablation_result",
    "build_board",
    "write_ablation",
    "write_board",
]
