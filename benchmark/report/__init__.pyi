from .content import Report, build_report
from .grid import Grid, build_grid
from .grid_files import write_grid
from .many import SideBySide
from .many_files import report_many
from .writing import report_runs, write_report

__all__ = [
    "Grid",
    "Report",
    "SideBySide",
    "build_grid",
    "build_report",
    "report_many",
    "report_runs",
    "write_grid",
    "write_report",
]
