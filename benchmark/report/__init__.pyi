from .content import Report, build_report
from .writing import report_runs, write_report

__all__ = [
    "Report",
    "build_report",
    "report_runs",
    "write_report",
]
