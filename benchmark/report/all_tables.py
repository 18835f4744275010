"""Every table of a report under its name, for the forms that hold all of them alike: LaTeX and Excel."""

from benchmark.report.content import Report
from benchmark.report.published import published_table
from benchmark.report.samples import sample_table
from benchmark.report.side_tables import (
    agreement_table,
    calibration_table,
    confusion_table,
    control_table,
    letter_table,
    reading_table,
    seed_table,
)
from benchmark.report.tables import Table, main_table, source_table


def all_tables(report: Report) -> dict[str, Table]:
    """Name -> table, in the order of the page; those that a report does not have are left out."""
    found = {
        "Results by class": main_table(report),
        "Runs": seed_table(report),
        "Results by source": source_table(report),
        "Controls": control_table(report),
        "Ways to read the answers": reading_table(report),
        "Agreement between views": agreement_table(report),
        "Letters chosen": letter_table(report),
        "Commonest confusions": confusion_table(report),
        "Calibration": calibration_table(report),
        "Published figures": published_table(report),
        "Sample questions": sample_table(report),
    }
    return {name: table for name, table in found.items() if table and table.rows}
