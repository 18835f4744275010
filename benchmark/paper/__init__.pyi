from .rows import PaperRow, paper_row, paper_rows

__all__ = [
    "PaperRow",
    "paper_row",
    "paper_rows",
]
