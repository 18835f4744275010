from .grouping import Grouping, group_manifest, group_photographs
from .records import SCHEMA, Record, Records, Split, levels, read_manifest, write_manifest

__all__ = [
    "SCHEMA",
    "Grouping",
    "Record",
    "Records",
    "Split",
    "group_manifest",
    "group_photographs",
    "levels",
    "read_manifest",
    "write_manifest",
]
