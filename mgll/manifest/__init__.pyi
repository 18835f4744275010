from .grouping import Grouping, group_manifest, group_photographs
from .masks import Mask, masks_beside, read_masks, write_masks
from .records import SCHEMA, Record, Records, Split, levels, read_manifest, write_manifest

__all__ = [
    "SCHEMA",
    "Grouping",
    "Mask",
    "Record",
    "Records",
    "Split",
    "group_manifest",
    "group_photographs",
    "levels",
    "masks_beside",
    "read_manifest",
    "read_masks",
    "write_manifest",
    "write_masks",
]
