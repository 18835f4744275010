"""WebDataset shards -> a manifest that points into them; nothing is unpacked.

Shards of `mgll.manifest.shards` need no flags: their JSON files are records. In other people's shards each sample's JSON file
is a row whose fields the flags choose (those of nested objects are `outer.inner`); `txt` is the content of its `.txt` file and
`key` its name. No other file is opened: a `.pkl` or `.pyd` is not unpickled, and no URL or pipe is followed.

    python -m mgll.readers.webdataset_shards shards/*.tar --level report=txt --group patient --out manifest.jsonl
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mgll.formats import FormatError, describe_errors
from mgll.manifest.records import Record
from mgll.manifest.shards import MAX_KINDS, Sample, read_shard
from mgll.readers.class_tables import read_classes
from mgll.readers.columns import Columns, add_column_arguments, chosen_columns
from mgll.readers.labels import LabelReader
from mgll.readers.writing import Found, write_found
from mgll.vocabulary.diseases import FUNDUS


def read_webdataset(shards: Sequence[str], columns: Columns | None = None) -> Found:
    """Records of the samples in the shards, and notes (reason -> number of files or samples that were not used).

    Args:
        shards: paths of uncompressed tar files.
        columns: what the fields of the JSON files become; None if every JSON file is a record of a manifest already.

    Raises:
        FormatError: naming the shard and the sample that is wrong, or the chosen field that no sample has.
        ValueError: for labels that only a vocabulary can decide.
    """
    records: list[Record] = []
    notes: Counter[str] = Counter()
    seen: set[str] = set()
    labels = LabelReader(table=columns.table if columns else FUNDUS)
    if twice := [shard for shard, count in Counter(map(os.path.realpath, shards)).items() if count > 1]:
        raise FormatError(twice[0], None, "this shard is named twice; its images would be in the manifest twice")
    for shard in shards:
        for sample in read_shard(shard):
            for kind, files in sample.ignored.items():
                note = f"ignored {kind} in its sample"
                notes[note if note in notes or len(notes) < MAX_KINDS else "ignored other file in its sample"] += files
            if sample.image is None:
                notes["left out: a sample without an image"] += 1
                continue
            try:
                # The same wherever the shard lies and however its path is typed.
                own = f"{Path(shard).name}/{sample.key}"
                records.append(_record(sample, str(sample.image), own, columns, seen, labels, notes))
            except ValidationError as error:
                raise FormatError(shard, None, f"sample {sample.key}: {describe_errors(error)}") from None
            except (ValueError, RecursionError) as error:
                raise FormatError(shard, None, f"sample {sample.key}: {error}") from None
    if columns and records and (unknown := sorted(set(columns.names) - seen)):
        raise FormatError(shards[0], None, f"no sample has {', '.join(unknown)}; they have {', '.join(sorted(seen))}")
    labels.refuse_ambiguous()
    return records, notes + labels.notes()


def _record(
    sample: Sample,
    image: str,
    name: str,
    columns: Columns | None,
    seen: set[str],
    labels: LabelReader,
    notes: Counter[str],
) -> Record:
    if columns is None:
        record = Record.model_validate_json(sample.texts.get(".json", b"{}"))
        return record.model_copy(update={"image": image})
    row: defaultdict[str, str | list[str]] = defaultdict(str, key=sample.key)
    if ".txt" in sample.texts:
        row["txt"] = sample.texts[".txt"].decode().strip()
    if ".json" in sample.texts:
        row |= _flat(json.loads(sample.texts[".json"]))
    seen.update(row)
    return columns.record(row, image, labels, notes, name)


def _flat(value: Any, name: str = "") -> dict[str, str | list[str]]:
    """Fields of a JSON value as strings, or lists of strings; fields of nested objects have dotted names."""
    if isinstance(value, dict):
        return {k: v for key, own in value.items() for k, v in _flat(own, f"{name}.{key}" if name else key).items()}
    if not name:
        raise ValueError(f"its JSON file holds no object, found {value!r:.80}")
    if isinstance(value, list):
        return {name: [_text(item) for item in value]}
    return {name: _text(value)}


def _text(value: Any) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value)


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mgll.readers.webdataset_shards", description=__doc__)
    parser.add_argument("shards", nargs="+", help="tar files, in any order")
    parser.add_argument("--out", required=True, help="manifest to write")
    add_column_arguments(parser)
    options = parser.parse_args(arguments)

    chosen = options.level or options.one_hot or options.labels
    columns = chosen_columns(options) if chosen else None

    def read() -> Found:
        return read_webdataset(options.shards, columns)

    return write_found(options.out, read, table=columns.table if columns else read_classes(options.classes))


if __name__ == "__main__":
    raise SystemExit(main())
