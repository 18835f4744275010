"""What a table and a folder look like they mean: a whole command of `folder_csv`, and for each of its flags why, with counts."""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mgll.flags import as_typed
from mgll.formats import FormatError
from mgll.readers.cells import is_missing
from mgll.readers.folder_images import FolderImages
from mgll.readers.guessed_images import choose_images, eye_columns
from mgll.readers.guessed_labels import choose_labels
from mgll.readers.labels import spelled_separator
from mgll.readers.proposal import Proposal, merged_eyes, quoted
from mgll.readers.splits import NAMES
from mgll.readers.tables import TableForm, open_table
from mgll.readers.workbooks import WORKBOOKS, sheet_rows

#: So many rows are looked at.
_ROWS = 3000
_PATIENT = re.compile(
    r"pati[eë]nt|subject|person|\b(pat|pid|mrn|fall|ipp|nhc)\b|participant|paciente|paziente|pacjent|proband|fallnummer|case.?id"
    r"|dossier|病历号|病歷號|患者|病人|受试者|就诊号|住院号|门诊号|カルテ",
    re.I,
)
#: Of these, what may count visits instead of people.
_CASE = re.compile(r"\bfall\b|fallnummer|case|dossier|就诊号|住院号", re.I)
_ID = re.compile(r"^(id|nr|no|number|nummer|case|study.?id)\.?$", re.I)
_AGE_OR_SEX = re.compile(r"\bage\b|\bsex\b|gender|\balter\b|geschlecht|birth|geburt", re.I)
_SOURCE = re.compile(r"source|\bsite\b|cent(er|re)|hospital|klinik|clinic|data.?set|device|camera", re.I)


def guess_command(
    folder: str | os.PathLike[str], table: str | os.PathLike[str], form: TableForm, classes: str, out: str | None
) -> str:
    """The proposed command, and under it a line for each choice that says why.

    Args:
        folder: the folder of the images.
        table: the table.
        form: how it is stored, as far as this is said.
        classes: the class table as it was typed.
        out: the manifest as it was typed.

    Raises:
        FormatError: for a table that is missing or wrong, or a folder without images.
    """
    proposal, images = Proposal(), FolderImages(folder)
    if not images.names:
        raise FormatError(folder, None, images.why_none())
    form = _form(table, form, proposal)
    opened = open_table(table, (), form)
    rows = [row for _, row in islice(opened.rows, _ROWS)]
    columns = {name: [row[name] for row in rows] for name in opened.header if name}
    if not rows:
        raise FormatError(table, None, f"no row under the header {list(opened.header)}")
    proposal.why += [f"table: {said}" for said in (f"{len(rows)} rows, {len(columns)} columns", *opened.told)]
    eyes = eye_columns(columns)
    both = choose_images(columns, eyes, images, proposal)
    _choose_group(columns, rows, proposal)
    _choose_split(columns, proposal)
    templates = eyes if both else {}
    choose_labels(columns, templates, classes, images, proposal)
    _choose_texts(columns, templates, proposal)
    _choose_source(columns, proposal)
    own = {name for template in proposal.used for name in eyes.get(template, {template: ""})}
    rest = [name for name in columns if name not in own]
    empty = [name for name in rest if all(map(is_missing, columns[name]))]
    if empty:
        proposal.why.append(f"empty in all rows: {', '.join(empty)}")
    if unused := [name for name in rest if name not in empty]:
        proposal.why.append(f"not used: {', '.join(unused)}")
    if {"--labels", "--one-hot", "--level"} & set(proposal.flags):
        words = [str(folder), "--table", str(table), *proposal.flags, "--out", out or "manifest.jsonl"]
        command = f"{as_typed('python -m mgll.readers.folder_csv')} {shlex.join(words)}"
    else:
        command = (
            "no command can be proposed: no column that could be read says what an image shows; the notes below say which flag to"
            f" set by hand (--labels, --one-hot or --level), beside {shlex.join(proposal.flags)}"
        )
    return f"{command}\n\n" + "\n".join(f"  {line}" for line in proposal.why)


def _form(table: str | os.PathLike[str], form: TableForm, proposal: Proposal) -> TableForm:
    """The form with the largest sheet of a workbook that has several."""
    flags = {"--delimiter": form.delimiter, "--encoding": form.encoding, "--sheet": form.sheet}
    for flag, value in flags.items():
        if value:
            proposal.add("as typed", flag, spelled_separator(value))
    if Path(table).suffix.lower() in WORKBOOKS and Path(table).is_file() and not form.sheet:
        sheets = sheet_rows(table)
        if len(sheets) > 1:
            name = max(sheets, key=lambda own: len(sheets[own]))
            proposal.add(f"of {len(sheets)} sheets that with the most rows ({len(sheets[name])})", "--sheet", name)
            return replace(form, sheet=name)
    return form


def _choose_group(columns: Mapping[str, Sequence[str]], rows: Sequence[object], proposal: Proposal) -> None:
    possible = [name for name in columns if not _AGE_OR_SEX.search(name.replace("_", " "))]
    named = [name for name in possible if _PATIENT.search(name.replace("_", " "))] or [
        name for name in possible if _ID.search(name) and (name not in proposal.used or "--ending" in proposal.flags)
    ]
    filled_cells = {name: [cell for cell in columns[name] if not is_missing(cell)] for name in named}
    candidates = {name: own for name, own in filled_cells.items() if own}
    if not candidates:
        proposal.add(
            "no column looks like the patient: every image is its own group, and a patient with several images may stand in"
            " training and test; add --group COLUMN if there is one"
        )
        return
    people = [own for own in candidates if not _CASE.search(own.replace("_", " "))]
    name = max(people or candidates, key=lambda own: len(set(candidates[own])))
    filled = candidates[name]
    cases = "" if people else "; if it counts visits, not people, name another column"
    proposal.add(f"its name; {len(set(filled))} different in {len(filled)} rows{cases}", "--group", name)
    proposal.used.add(name)
    if empty := len(rows) - len(filled):
        first_filled = not is_missing(columns[name][0])
        merged = (
            first_filled
            and empty >= len(rows) / 5
            and len(set(filled)) == len(filled)
            and columns[name].count("") == empty
        )
        what = "above" if merged else "own"
        why = (
            "each patient is named once, as in merged cells"
            if merged
            else "each is taken for another patient: look at them"
        )
        proposal.add(f"{empty} cells of {name} are empty; {why}", "--empty-group", what)


def _choose_split(columns: Mapping[str, Sequence[str]], proposal: Proposal) -> None:
    for name, cells in columns.items():
        words = {cell.lower() for cell in cells}
        splits = {NAMES[word] for word in words if word in NAMES}
        if words and words <= NAMES.keys() and {"train", "test"} <= splits:
            proposal.add(f"its cells are {', '.join(sorted(words))}", "--split", name)
            proposal.used.add(name)
            return


def _choose_texts(
    columns: Mapping[str, Sequence[str]], templates: Mapping[str, Mapping[str, str]], proposal: Proposal
) -> None:
    """Choose columns of sentences as the level `report`."""
    sentences: Callable[[Sequence[str]], float] = lambda cells: sum(map(_words, cells)) / max(len(cells), 1)  # noqa: E731
    for name, cells in merged_eyes(columns, templates, proposal.used).items():
        filled = [cell for cell in cells if not is_missing(cell)]
        if len(filled) >= len(cells) / 4 and sentences(filled) >= 5 and len(set(filled)) > 3:
            labelled = "--labels" in proposal.flags or any(flag.startswith("labels=") for flag in proposal.flags)
            flags = ["--describe-labels"] if labelled and "--describe-labels" not in proposal.flags else []
            why = f"{len(filled)} cells of {sentences(filled):.0f} words on average: sentences"
            proposal.add(why, "--level", f"report={quoted(name)}", *flags)
            proposal.used.add(name)


def _words(cell: str) -> int:
    return len(cell.split())


def _choose_source(columns: Mapping[str, Sequence[str]], proposal: Proposal) -> None:
    for name, cells in columns.items():
        kinds = {cell for cell in cells if not is_missing(cell)}
        if name not in proposal.used and _SOURCE.search(name.replace("_", " ")) and 2 <= len(kinds) <= 20:
            why = f"{len(kinds)} different ({', '.join(sorted(kinds)[:4])}); questions are drawn within each"
            proposal.add(why, "--source-column", name)
            proposal.used.add(name)
            return
