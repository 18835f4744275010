"""The manifest: one image a line with its split, its group and its texts by granularity."""

from mgll.manifest.records import SCHEMA, Record, Records, Split, levels, read_manifest, write_manifest

__all__ = ["SCHEMA", "Record", "Records", "Split", "levels", "read_manifest", "write_manifest"]
