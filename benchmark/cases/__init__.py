"""Four-option questions about images: the file between the making of the benchmark and its scoring."""

from benchmark.cases.case import SCHEMA, Case, check_images, describe, position_test, read_cases, write_cases

__all__ = ["SCHEMA", "Case", "check_images", "describe", "position_test", "read_cases", "write_cases"]
