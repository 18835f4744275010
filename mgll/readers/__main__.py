"""The readers by name: `python -m mgll.readers folder-csv FOLDER ...`, or `mgll read folder-csv FOLDER ...`.

`--list` says what there is to download, where and under which licence. Readers of other packages stand in the same list; see
`mgll.plugins`.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from mgll.ending import ends_in_one_line
from mgll.flags import did_you_mean, hyphens, names_of, typed
from mgll.plugins import load_plugin, plugins
from mgll.readers.downloads import SETS, downloads_told

#: Name -> module, and what it reads.
READERS: Mapping[str, tuple[str, str]] = {
    "folder-csv": ("mgll.readers.folder_csv", "any folder of images with a table"),
    "fundus-folder": ("mgll.readers.fundus_folder", "photographs with labels.csv as this package's studies have it"),
    "mgll-fundus": ("mgll.readers.mgll_fundus", "the lists that the paper's authors publish"),
    "midrc-xray": ("mgll.readers.midrc_xray", "DICOM radiographs of MIDRC"),
    "mimic-cxr": ("mgll.readers.mimic_cxr", "MIMIC-CXR-JPG with its reports"),
    "masks": ("mgll.readers.masks", "masks of REFUGE, IDRiD or QaTa-COV19 beside a manifest"),
    "webdataset-shards": ("mgll.readers.webdataset_shards", "tar files of images and their texts"),
    **{
        hyphens(own.download.reader): (
            f"mgll.readers.{own.download.reader}",
            f"{own.download.name}, {own.download.what}",
        )
        for own in SETS
        if " " not in own.download.reader  # a flag of another reader
    },
}


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the reader that is named first; the words after it are its own."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words == ["--list"]:
        print("\n".join(downloads_told()))
        return 0
    others = plugins("readers", READERS)
    if not words or words[0] in ("-h", "--help"):
        lines = [
            "usage: mgll read READER ...   (mgll read READER --help says what it takes; mgll read --list, what to download)",
            "",
        ]
        lines += [f"  {name:20s}{what}" for name, (_, what) in READERS.items()]
        lines += [f"  {name:20s}plug-in, {entry.value}" for name, entry in others.items()]
        print("\n".join(lines))
        return 0
    name = words[0] if words[0] in others else hyphens(words[0])
    if name not in READERS and name not in others:
        known = [*READERS, *others]
        print(f"error: there is no reader {words[0]}{did_you_mean(name, known)} (mgll read --help)", file=sys.stderr)
        return 2
    with typed(
        f"mgll read {name}", words[1:], names_of({f"read {each}": module for each, (module, _) in READERS.items()})
    ):
        read = load_plugin(others[name]) if name not in READERS else import_module(READERS[name][0]).main
        return int(read() or 0)


if __name__ == "__main__":
    sys.exit(main())
