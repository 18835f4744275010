"""Predictions."""

from benchmark.predictions.file import ComparisonError, Prediction, Run, differences, read_run, write_run

__all__ = ["ComparisonError", "Prediction", "Run", "differences", "read_run", "write_run"]
