from .records import SCHEMA, Record, Records, Split, levels, read_manifest, write_manifest

__all__ = [
    "SCHEMA",
    "Record",
    "Records",
    "Split",
    "levels",
    "read_manifest",
    "write_manifest",
]
