from .building import build_cases
from .case import SCHEMA, Case, check_images, describe, position_test, read_cases, write_cases
from .overlap import OverlapCheck, OverlapError, find_overlaps

__all__ = [
    "SCHEMA",
    "Case",
    "OverlapCheck",
    "OverlapError",
    "build_cases",
    "check_images",
    "describe",
    "find_overlaps",
    "position_test",
    "read_cases",
    "write_cases",
]
