"""MGLL-Fundus and MGLL-Xray in the layout of their authors -> manifest.

A folder holds `NAME_train.txt` and `NAME_val.txt`, whose lines are paths of JSON files in that folder. Each is a list of entries
with `ImageID` and the texts: `Disease` and `Description`, or `Keyword` alone, or `modality`, `study_description_0` and
`series_description`. A fundus image `/TOP/SET/FILE.jpg` is the array `image` of `All_data_npz/SET/FILE.npz`; an X-ray lies where
its `ImageID` says. The manifest points into the npz files, which `mgll.images.preprocessing.open_image` reads: no copy, no loss.

    python -m mgll.readers.mgll_fundus FOLDER --list 2level_multi_disease_list --out manifest.jsonl
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError
from mgll.manifest.records import Record, Split
from mgll.readers.cells import is_bare_value, is_missing
from mgll.readers.labels import LabelReader, add_vocabulary_argument
from mgll.readers.vocabularies import Vocabulary, read_vocabulary
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.label_texts import DISEASE, EXPLANATION, MODALITY, SERIES, STUDY

#: Granularity -> keys of an entry, coarse to fine. In lists with a single level the key `Disease` is called `Keyword`.
LEVELS: Mapping[str, tuple[str, ...]] = {
    MODALITY: ("modality",),
    STUDY: ("study_description_0",),
    SERIES: ("series_description",),
    DISEASE: ("Disease", "Keyword"),
    EXPLANATION: ("Description",),
}
LISTS: tuple[tuple[Split, str], ...] = (("train", "_train.txt"), ("val", "_val.txt"), ("test", "_test.txt"))


def read_mgll_fundus(
    folder: str | os.PathLike[str], name: str, prompt: str = "", vocabulary: Vocabulary | None = None
) -> Found:
    """Records of the lists called `name`, and notes (reason -> number of images).

    The files name no patients, so each image is a group of its own. A disease text "Abnormal, Cataract, Myopia" becomes three
    texts; a description is kept whole, because its own sentences hold commas.

    Args:
        folder: the data set's folder.
        name: name of the lists, such as `2level_multi_disease_list`.
        prompt: text to put before every disease text, as the authors do with "This is a fundus image of ".
        vocabulary: what the disease texts mean as classes, where the disease table's names don't say it.

    Raises:
        FormatError: if there is no such list, or an entry is not of this layout.
        ValueError: for disease texts that only a vocabulary can decide.
    """
    folder = Path(folder)
    lists = [(split, folder / f"{name}{ending}") for split, ending in LISTS if (folder / f"{name}{ending}").is_file()]
    if not lists:
        known = sorted({path.name.removesuffix(e) for _, e in LISTS for path in folder.glob(f"*{e}")})
        raise FormatError(folder / f"{name}_train.txt", None, f"no such list; the folder has {known or 'none'}")
    records: dict[str, Record] = {}
    notes: Counter[str] = Counter()
    labels = LabelReader(vocabulary or Vocabulary())
    for split, path in lists:
        for number, line in enumerate(_text(path).splitlines(), start=1):
            for file, entry in _entries(path, number, folder, line):
                record = _record(folder, split, file, entry, prompt, labels, notes)
                first = records.setdefault(record.image, record)
                if first is not record:
                    notes[f"named again in {path.name}; the first entry is kept, in split {first.split}"] += 1
    labels.refuse_ambiguous()
    return list(records.values()), notes + labels.notes()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(path, None, f"not UTF-8 text ({error.reason})") from None


def _entries(path: Path, number: int, folder: Path, line: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The entries of the JSON file that a line of a list names."""
    if not line.strip():
        return
    file = folder / line.strip().lstrip("/")
    if not file.is_file():
        raise FormatError(path, number, f"no such file: {file}")
    try:
        entries = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise FormatError(file, None, f"not JSON ({error})") from None
    if not isinstance(entries, list):
        raise FormatError(file, None, f"expected a list of entries, found {type(entries).__name__}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("ImageID"), str) or not entry["ImageID"].strip("/"):
            raise FormatError(file, None, f"entry {index}: expected an object with ImageID, found {entry!r:.80}")
        yield file, entry


def _record(
    folder: Path,
    split: Split,
    file: Path,
    entry: dict[str, Any],
    prompt: str,
    met: LabelReader,
    notes: Counter[str],
) -> Record:
    texts: dict[str, tuple[str, ...]] = {}
    for level, keys in LEVELS.items():
        own = dict.fromkeys(part for key in keys for part in _parts(file, entry, key, level == DISEASE, notes))
        if own:
            texts[level] = tuple(own)
    if not texts:
        notes["kept without any text"] += 1
    labels = LabelReader(met.vocabulary)
    named = [name for name in texts.get(DISEASE, ()) if name.lower() != "abnormal"]
    codes = tuple(dict.fromkeys(code for name in named for code in labels.codes(name)))
    met.add_image(labels)
    if prompt and DISEASE in texts:
        texts[DISEASE] = tuple(prompt + name for name in texts[DISEASE])
    image, source = _image(folder, file, entry["ImageID"], fundus="modality" not in entry)
    return Record(image=str(image), split=split, group=entry["ImageID"], texts=texts, labels=codes, source=source)


def _parts(file: Path, entry: dict[str, Any], key: str, split_commas: bool, notes: Counter[str]) -> list[str]:
    texts = entry.get(key, [])
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise FormatError(file, None, f"field {key} of {entry['ImageID']!r}: expected a text, found {texts!r:.80}")
    parts = [part.strip() for text in texts for part in (text.split(",") if split_commas else [text])]
    for part in parts:
        if part and (is_missing(part) or is_bare_value(part)):
            notes[f"{key} is {part!r}: no words, left out"] += 1
    return [part for part in parts if not is_missing(part) and not is_bare_value(part)]


def _image(folder: Path, file: Path, image: str, fundus: bool) -> tuple[Path, str]:
    """Where the pixels lie, and the data set that the path names."""
    if not fundus:
        return folder / image, "MIDRC"
    _, _, below = image.lstrip("/").partition("/")  # the first folder is the one with the JPEG files
    if not below:
        raise FormatError(file, None, f"field ImageID: expected /FOLDER/SET/FILE, found {image!r}")
    path = Path(below)
    return folder / "All_data_npz" / path.with_suffix(".npz"), path.parts[0] if len(path.parts) > 1 else ""


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.mgll_fundus", description=__doc__)
    parser.add_argument("folder", help="the data set as published")
    parser.add_argument("--list", default="2level_multi_disease_list", help="name of the lists (default: %(default)s)")
    parser.add_argument("--prompt", default="", help='put before disease texts, such as "This is a fundus image of "')
    parser.add_argument("--out", required=True, help="manifest to write")
    add_vocabulary_argument(parser)
    options = parser.parse_args(arguments)

    def read() -> Found:
        return read_mgll_fundus(options.folder, options.list, options.prompt, read_vocabulary(options.vocabulary))

    return write_found(options.out, read, made_from=options.folder)


if __name__ == "__main__":
    raise SystemExit(main())
