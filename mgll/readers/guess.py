"""What a table and a folder look like they mean: a whole command of `folder_csv`, and for each of its flags why, with counts."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from mgll.formats import FormatError
from mgll.readers.cells import is_bare_value, is_missing, is_positive, whole_number
from mgll.readers.class_tables import SHIPPED_CLASSES, read_classes
from mgll.readers.columns import EYE
from mgll.readers.folder_images import FolderImages
from mgll.readers.labels import SEPARATORS, known_to, spelled_separator
from mgll.readers.splits import NAMES
from mgll.readers.tables import TableForm, open_table
from mgll.readers.vocabularies import SHIPPED, Vocabulary, read_vocabulary
from mgll.readers.workbooks import WORKBOOKS, sheet_rows
from mgll.vocabulary.classes import ClassTable
from mgll.vocabulary.labels import ambiguous_labels, class_named, label_key

#: So many rows are looked at.
_ROWS = 3000
#: So many cells of a column are looked for in the folder.
_LOOKED_UP = 300
#: What the two eyes are called, in lower case, left and right.
_EYES = (
    ("left", "right"),
    ("os", "od"),
    ("le", "re"),
    ("l", "r"),
    ("links", "rechts"),
    ("la", "ra"),
    ("gauche", "droite"),
    ("gauche", "droit"),
    ("og", "od"),
    ("izquierdo", "derecho"),
    ("oi", "od"),
    ("sinistro", "destro"),
)
_PATIENT = re.compile(
    r"patient|subject|person|\b(pat|pid|mrn|fall)\b|participant|paciente|paziente|proband|fallnummer|case.?id", re.I
)
_ID = re.compile(r"^(id|nr|no|number|nummer|case|study.?id)\.?$", re.I)
_AGE_OR_SEX = re.compile(r"\bage\b|\bsex\b|gender|\balter\b|geschlecht|birth|geburt", re.I)
_SOURCE = re.compile(r"source|\bsite\b|cent(er|re)|hospital|klinik|clinic|data.?set|device|camera", re.I)
_DR_GRADE = re.compile(r"\bdr\b|retinopath|icdr|diagnosis|level|grade", re.I)


@dataclass
class _Proposal:
    """Flags of the command, and why."""

    flags: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def add(self, why: str, *flags: str) -> None:
        self.flags += flags
        self.why.append(f"{' '.join(map(shlex.quote, flags)) or 'note'}: {why}")


@dataclass(frozen=True)
class _Looked:
    """A column whose cells were looked for in the folder: how many are images, of how many, and how their names differ."""

    hits: int
    cells: int
    ways: Counter[str]


@dataclass(frozen=True)
class _Named:
    """A column of labels: how it is parted, and what knows its labels."""

    column: str
    separator: str | None
    parts: Counter[str]

    def known(self, table: ClassTable, vocabulary: Vocabulary | None = None) -> int:
        """Number of labels, counted as often as they stand there, of which the class is known."""
        return sum(
            times
            for part, times in self.parts.items()
            if (vocabulary and vocabulary.meaning(part, self.column))
            or (class_named(part, table) and label_key(part) not in ambiguous_labels(table))
        )


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
    proposal, images = _Proposal(), FolderImages(folder)
    if not images.names:
        raise FormatError(
            folder, None, "no such folder" if not Path(folder).is_dir() else "no image file in this folder"
        )
    form = _form(table, form, proposal)
    opened = open_table(table, (), form)
    rows = [row for _, row in islice(opened.rows, _ROWS)]
    columns = {name: [row[name] for row in rows] for name in opened.header if name}
    if not rows:
        raise FormatError(table, None, f"no row under the header {list(opened.header)}")
    proposal.why += [f"table: {said}" for said in (f"{len(rows)} rows, {len(columns)} columns", *opened.told)]
    eyes = _eye_columns(columns)
    both = _choose_images(columns, eyes, images, proposal)
    _choose_group(columns, rows, proposal)
    _choose_split(columns, proposal)
    templates = eyes if both else {}
    _choose_labels(columns, templates, classes, proposal)
    _choose_texts(columns, templates, proposal)
    _choose_source(columns, proposal)
    own = {name for template in proposal.used for name in eyes.get(template, {template: ""})}
    rest = [name for name in columns if name not in own]
    if rest:
        proposal.why.append(f"not used: {', '.join(rest)}")
    command = ["python", "-m", "mgll.readers.folder_csv", str(folder), "--table", str(table), *proposal.flags]
    command += ["--out", out or "manifest.jsonl"]
    return f"{shlex.join(command)}\n\n" + "\n".join(f"  {line}" for line in proposal.why)


def _form(table: str | os.PathLike[str], form: TableForm, proposal: _Proposal) -> TableForm:
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


def _eye_columns(columns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Template with `{eye}` -> its column for the left and for the right eye, each with the word that it uses."""
    names = list(columns)
    found: dict[str, dict[str, str]] = {}
    for left, right in _EYES:
        spelled = [
            {
                re.sub(pattern, EYE, name, count=1, flags=re.I): (name, match[0])
                for name in names
                if (match := re.search(pattern, name, re.I))
            }
            for pattern in (rf"(?<![^\W_]){word}(?![^\W_])" for word in (left, right))
        ]
        for template in spelled[0].keys() & spelled[1].keys():
            sides = dict([spelled[0][template], spelled[1][template]])
            found.setdefault(template, sides)
    return found


def _choose_images(
    columns: Mapping[str, Sequence[str]],
    eyes: Mapping[str, Mapping[str, str]],
    images: FolderImages,
    proposal: _Proposal,
) -> bool:
    """Choose the column of images; returns whether it is one for each eye."""
    found: dict[str, _Looked] = {}
    for name, cells in columns.items():
        filled = [cell for cell in cells if not is_missing(cell)][:_LOOKED_UP]
        ways: Counter[str] = Counter()
        hits = sum(_is_file(cell, images, ways) for cell in filled)
        if filled and hits >= len(filled) / 2:
            if _is_file(name, images, Counter()):
                raise FormatError(
                    images.folder, None, f"{name!r} of the first row is an image: the table has no header; add one"
                )
            found[name] = _Looked(hits, len(filled), ways)
    for template, sides in eyes.items():
        if set(sides) <= found.keys():
            hits, looked_up = (sum(getattr(found[name], what) for name in sides) for what in ("hits", "cells"))
            words = _eye_words(eyes.values())
            proposal.add(
                f"{hits} of {looked_up} cells of {' and '.join(map(repr, sides))} are images of the folder; a row is a patient",
                *("--image", template, "--eyes", words),
            )
            proposal.used.add(template)
            return True
    if found:
        name = max(found, key=lambda own: (found[own].hits / found[own].cells, found[own].hits, len(set(columns[own]))))
        best = found[name]
        said = "".join(f"; {way}: {times}" for way, times in best.ways.most_common())
        proposal.add(f"{best.hits} of {best.cells} cells are images of the folder{said}", "--image", name)
        proposal.used.add(name)
        return False
    return _choose_ending(columns, eyes, images, proposal)


def _is_file(cell: str, images: FolderImages, ways: Counter[str]) -> bool:
    try:
        found = images.find(cell, ways)
    except ValueError:
        return False
    return found != cell or (images.folder / cell).is_file()


def _eye_words(pairs: Iterable[Mapping[str, str]]) -> str:
    """All words of the left eye and all of the right, as --eyes takes them."""
    words: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for sides in pairs:
        for own, word in zip(words, sides.values(), strict=True):
            own[word] = None
    return ",".join("|".join(own) for own in words)


def _choose_ending(
    columns: Mapping[str, Sequence[str]],
    eyes: Mapping[str, Mapping[str, str]],
    images: FolderImages,
    proposal: _Proposal,
) -> bool:
    """Choose a column whose cells begin the names of images, and what stands behind them: one ending, or one for each eye."""
    counts = Counter(name.rsplit("/", 1)[-1] for name in images.names)
    names = [name for name, times in counts.items() if times == 1]
    best: tuple[int, int, str, list[str]] = (0, 0, "", [])
    for column, cells in columns.items():
        filled = list(dict.fromkeys(cell for cell in cells if not is_missing(cell)))[:_LOOKED_UP]
        endings = Counter(
            name[len(cell) :]
            for cell in map(whole_number, filled)
            for name in names
            if name.startswith(cell) and not name[len(cell) : len(cell) + 1].isalnum()
        )
        common = [ending for ending, times in endings.most_common(4) if times >= len(filled) / 2]
        if common and endings[common[0]] > best[0]:
            best = (endings[common[0]], len(filled), column, common)
    hits, names_looked_up, column, common = best
    if not column:
        shown = ", ".join(images.names[:3])
        raise FormatError(
            images.folder,
            None,
            f"no column names its {len(images.names)} images (such as {shown}); the table has {', '.join(columns)}",
        )
    proposal.used.add(column)
    pair = next(iter(_eye_columns(common).items()), None)
    if pair:
        why = f"{hits} of {names_looked_up} names begin images of the folder that end in {' and '.join(map(repr, pair[1]))}"
        proposal.add(why, "--image", column, "--ending", pair[0], "--eyes", _eye_words([pair[1], *eyes.values()]))
        return True
    proposal.add(
        f"{hits} of {names_looked_up} names begin images of the folder that end in {common[0]!r}",
        *("--image", column, "--ending", common[0]),
    )
    return False


def _choose_group(columns: Mapping[str, Sequence[str]], rows: Sequence[object], proposal: _Proposal) -> None:
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
    name = max(candidates, key=lambda own: len(set(candidates[own])))
    filled = candidates[name]
    proposal.add(f"its name; {len(set(filled))} different in {len(filled)} rows", "--group", name)
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


def _choose_split(columns: Mapping[str, Sequence[str]], proposal: _Proposal) -> None:
    for name, cells in columns.items():
        words = {cell.lower() for cell in cells}
        splits = {NAMES[word] for word in words if word in NAMES}
        if words and words <= NAMES.keys() and {"train", "test"} <= splits:
            proposal.add(f"its cells are {', '.join(sorted(words))}", "--split", name)
            proposal.used.add(name)
            return


def _choose_labels(
    columns: Mapping[str, Sequence[str]],
    templates: Mapping[str, Mapping[str, str]],
    classes: str,
    proposal: _Proposal,
) -> None:
    """Choose columns of class names, or of grades, or of 1 and 0, and the class table and vocabulary that know them."""
    texts = _merged_eyes(columns, templates, proposal.used)
    named = [own for name, cells in texts.items() if (own := _named(name, cells))]
    tables = {name: read_classes(name) for name in ([classes] if classes != "fundus" else SHIPPED_CLASSES)}
    choice = max(tables, key=lambda name: sum(own.known(tables[name]) for own in named), default=classes)
    table = tables[choice]
    vocabularies = {name: read_vocabulary([name], table) for name in SHIPPED if name != "mgll"}

    def share(own: _Named, vocabulary: Vocabulary | None = None) -> float:
        return own.known(table, vocabulary) / own.parts.total()

    chosen = [own for own in named if max([share(own), *(share(own, one) for one in vocabularies.values())]) >= 0.4]
    grades = {name: cells for name, cells in texts.items() if _are_grades(name, cells)}
    one_hot = {name: cells for name, cells in texts.items() if _are_one_hot(cells) and name not in grades}
    if choice != "fundus":
        proposal.add(f"as typed, or the shipped table that knows the most labels ({table.name})", "--classes", choice)
    if chosen:
        _add_named(chosen, table, vocabularies, proposal)
    elif grades:
        for name in grades:
            values = ", ".join(sorted(set(filter(None, map(whole_number, texts[name])))))
            why = f"its cells are {values}, read as grades of diabetic retinopathy"
            proposal.add(
                f"{why} (0 none to 4 proliferative): make sure of it", "--labels", name, "--vocabulary", f"{name}=icdr"
            )
            proposal.used.add(name)
    elif not _add_one_hot(one_hot, table, vocabularies, proposal):
        proposal.add(
            f"no column holds names of classes ({', '.join(tables)}); say what your labels mean in a file (--labels COLUMN"
            " --synonyms FILE with label,class), or bring your own classes (--classes FILE with name,synonyms,explanation)"
        )


def _merged_eyes(
    columns: Mapping[str, Sequence[str]], templates: Mapping[str, Mapping[str, str]], used: set[str]
) -> dict[str, list[str]]:
    """Cells of every column that is not yet used, those of both eyes under their template."""
    of_eye = {name: template for template, sides in templates.items() for name in sides}
    found: dict[str, list[str]] = {}
    for name, cells in columns.items():
        if name not in used and of_eye.get(name) not in used:
            found.setdefault(of_eye.get(name, name), []).extend(cells)
    return found


def _named(column: str, cells: Sequence[str]) -> _Named | None:
    """How a column of words is parted, by the separator with which most of its parts are known; None for one without words."""
    filled = [cell for cell in cells if not is_missing(cell) and not is_bare_value(cell) and len(cell) <= 400]
    if len(filled) < max(len(cells) / 20, 1):
        return None

    def parted(separator: str | None) -> _Named:
        parts = (part.strip() for cell in filled for part in (cell.split(separator) if separator else [cell]))
        return _Named(column, separator, Counter(part for part in parts if not is_missing(part)))

    def known(own: _Named) -> float:
        return sum(times for part, times in own.parts.items() if _anyone_knows(part)) / max(own.parts.total(), 1)

    whole = parted(None)
    ways = [whole, *(parted(mark) for mark in SEPARATORS if any(mark in cell for cell in filled))]
    best = max(ways, key=known)
    return best if known(best) > 0 else None


def _anyone_knows(label: str) -> bool:
    tables = [read_classes(name) for name in SHIPPED_CLASSES]
    if any(class_named(label, table) or label_key(label) in ambiguous_labels(table) for table in tables):
        return True
    return bool(known_to(label))


def _add_named(
    chosen: Sequence[_Named], table: ClassTable, vocabularies: Mapping[str, Vocabulary], proposal: _Proposal
) -> None:
    for own in chosen:
        label, times = own.parts.most_common(1)[0]
        known, total = own.known(table), own.parts.total()
        why = f"{known} of {total} labels name a class (the most frequent: {label!r}, {times} times)"
        flags = ["--labels", _quoted(own.column)]
        if own.separator:
            flags += ["--separator", f"{own.column}={spelled_separator(own.separator)}"]
            why += f", parted at {own.separator!r}"
        proposal.add(why, *flags)
        proposal.used.add(own.column)
    total = sum(own.parts.total() for own in chosen)
    known = sum(own.known(table) for own in chosen)
    best = max(vocabularies, key=lambda name: sum(own.known(table, vocabularies[name]) for own in chosen))
    more = sum(own.known(table, vocabularies[best]) for own in chosen)
    if more > known + total / 20:
        proposal.add(f"with it {more} of {total} labels are known: is this such a data set?", "--vocabulary", best)
    vocabulary = vocabularies[best] if more > known + total / 20 else None
    unknown = Counter[str]()
    for own in chosen:
        for part, times in own.parts.items():
            if not _Named(own.column, None, Counter({part: 1})).known(table, vocabulary):
                unknown[part] += times
    if unknown:
        listed = ", ".join(f"{label!r} {times}" for label, times in unknown.most_common(12))
        proposal.add(
            f"{len(unknown)} labels are not known, or mean several things ({listed}{', ...' if len(unknown) > 12 else ''}):"
            " say in a file what they mean, --synonyms FILE with label,class"
        )


def _add_one_hot(
    one_hot: Mapping[str, Sequence[str]],
    table: ClassTable,
    vocabularies: Mapping[str, Vocabulary],
    proposal: _Proposal,
) -> bool:
    plain = [name for name in one_hot if class_named(name, table) and label_key(name) not in ambiguous_labels(table)]
    by_vocabulary = {
        name: [column for column in one_hot if own.names_column(column)] for name, own in vocabularies.items()
    }
    best = max(by_vocabulary, key=lambda name: len(by_vocabulary[name]))
    if len(by_vocabulary[best]) > len(plain):
        columns = by_vocabulary[best]
        why = f"{len(columns)} columns of 1 and 0 are called like its labels ({', '.join(columns[:6])}): is this such a data set?"
        proposal.add(why, "--one-hot", f"disease={_quoted(*columns)}", "--vocabulary", best)
    elif plain:
        columns = plain
        why = f"{len(plain)} columns of 1 and 0 are called like classes"
        proposal.add(why, "--one-hot", f"labels={_quoted(*plain)}")
    else:
        return False
    proposal.used.update(columns)
    return True


def _are_one_hot(cells: Sequence[str]) -> bool:
    try:
        said = [is_positive(cell) for cell in set(cells) if not is_missing(cell)]
    except ValueError:
        return False
    return any(said)


def _are_grades(name: str, cells: Sequence[str]) -> bool:
    values = {whole_number(cell) for cell in cells if not is_missing(cell)}
    return {"0", "2"} <= values <= {"0", "1", "2", "3", "4"} and bool(_DR_GRADE.search(name.replace("_", " ")))


def _choose_texts(
    columns: Mapping[str, Sequence[str]], templates: Mapping[str, Mapping[str, str]], proposal: _Proposal
) -> None:
    """Choose columns of sentences as the level `report`."""
    sentences: Callable[[Sequence[str]], float] = lambda cells: sum(map(_words, cells)) / max(len(cells), 1)  # noqa: E731
    for name, cells in _merged_eyes(columns, templates, proposal.used).items():
        filled = [cell for cell in cells if not is_missing(cell)]
        if len(filled) >= len(cells) / 4 and sentences(filled) >= 5 and len(set(filled)) > 3:
            labelled = "--labels" in proposal.flags or any(flag.startswith("labels=") for flag in proposal.flags)
            flags = ["--describe-labels"] if labelled and "--describe-labels" not in proposal.flags else []
            why = f"{len(filled)} cells of {sentences(filled):.0f} words on average: sentences"
            proposal.add(why, "--level", f"report={_quoted(name)}", *flags)
            proposal.used.add(name)


def _words(cell: str) -> int:
    return len(cell.split())


def _choose_source(columns: Mapping[str, Sequence[str]], proposal: _Proposal) -> None:
    for name, cells in columns.items():
        kinds = {cell for cell in cells if not is_missing(cell)}
        if name not in proposal.used and _SOURCE.search(name.replace("_", " ")) and 2 <= len(kinds) <= 20:
            why = f"{len(kinds)} different ({', '.join(sorted(kinds)[:4])}); questions are drawn within each"
            proposal.add(why, "--source-column", name)
            proposal.used.add(name)
            return


def _quoted(*columns: str) -> str:
    return ",".join(f'"{name}"' if "," in name else name for name in columns)
