"""Which column of a table names the images of a folder, and how: a path, a beginning of a name, one for each eye."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mgll.formats import FormatError
from mgll.readers.cells import is_bare_value, is_missing, whole_number
from mgll.readers.columns import EYE
from mgll.readers.folder_images import FolderImages, image_made_of
from mgll.readers.proposal import Proposal

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
    ("sx", "dx"),
    ("izq", "der"),
    ("g", "d"),
    ("左眼", "右眼"),
    ("左", "右"),
)


@dataclass(frozen=True)
class _Looked:
    """A column whose cells were looked for in the folder: how many are images, of how many, and how their names differ."""

    hits: int
    cells: int
    ways: Counter[str]


def eye_columns(columns: Iterable[str]) -> dict[str, dict[str, str]]:
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
            # Chinese and Japanese write no space between words
            for pattern in (rf"(?<![^\W_]){word}(?![^\W_])" if word.isascii() else word for word in (left, right))
        ]
        for template in spelled[0].keys() & spelled[1].keys():
            sides = dict([spelled[0][template], spelled[1][template]])
            found.setdefault(template, sides)
    return found


def choose_images(
    columns: Mapping[str, Sequence[str]],
    eyes: Mapping[str, Mapping[str, str]],
    images: FolderImages,
    proposal: Proposal,
) -> bool:
    """Choose the column of images; returns whether it is one for each eye."""
    found: dict[str, _Looked] = {}
    several: dict[str, str] = {}
    for name, cells in columns.items():
        filled = [cell for cell in cells if not is_missing(cell)][:_LOOKED_UP]
        ways: Counter[str] = Counter()
        hits = sum(_is_file(cell, images, ways) for cell in filled)
        # a number below ten is nearly always part of some name
        said = next(filter(None, (_in_doubt(cell, images) for cell in filled if not is_bare_value(cell))), "")
        if said:
            several[name] = said
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
        if name in several:
            said += f"; reading stops where {several[name]}"
        elif best.hits < best.cells:
            absent = next(
                cell for cell in columns[name] if not is_missing(cell) and not _is_file(cell, images, Counter())
            )
            said += f"; the others are not there, the first is {absent!r}"
        proposal.add(f"{best.hits} of {best.cells} cells are images of the folder{said}", "--image", name)
        proposal.used.add(name)
        return False
    if several:
        name, said = next(iter(several.items()))
        raise FormatError(images.folder, None, f"column {name!r} names its images, but {said}")
    return _choose_ending(columns, eyes, images, proposal)


def _in_doubt(cell: str, images: FolderImages) -> str:
    """What is said of a cell that several files could be; nothing of any other."""
    try:
        images.find(cell, Counter())
    except ValueError as error:
        return str(error)
    return ""


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


def _begun_by(columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """The column with whose cells the names of most images begin, if these are most of its cells; else nothing."""

    def begun(column: str) -> float:
        cells = list({whole_number(cell) for cell in columns[column] if not is_missing(cell)})[:_LOOKED_UP]
        hits = [any(name.startswith(cell) and not name[len(cell) :][:1].isalnum() for name in names) for cell in cells]
        return sum(hits) / max(len(hits), 1)

    best = max(columns, key=begun)
    return best if begun(best) > 0.5 else ""


def _column_of_eyes(columns: Mapping[str, Sequence[str]]) -> str | None:
    """The column that says of which eye a row is: it holds the words of both, and no others."""
    for name, cells in columns.items():
        words = {cell.lower() for cell in cells if not is_missing(cell)}
        if len(words) == 2 and any(words == set(pair) for pair in _EYES):
            return name
    return None


def _add_made_of(
    columns: Mapping[str, Sequence[str]],
    column: str,
    side: str,
    ending: str,
    images: FolderImages,
    proposal: Proposal,
) -> None:
    """Propose names made of a column and that of the eye, where a row is about one eye."""
    made = f"{{{column}}}{ending.replace(EYE, f'{{{side}}}')}"
    rows = [dict(zip((column, side), cells, strict=True)) for cells in zip(columns[column], columns[side], strict=True)]
    named = [name for row in rows if (name := image_made_of(row, made))]
    hits = sum(_is_file(name, images, Counter()) for name in named)
    if hits < len(named) / 2:
        words = ", ".join(sorted({row[side] for row in rows} - {""}))
        raise FormatError(
            images.folder,
            None,
            f"a row is about one eye ({side}: {words}), which the names of the images ({', '.join(images.names[:2])}) call"
            " otherwise: add a column with the name of each row's image",
        )
    proposal.add(f"a row is about one eye; {hits} of {len(named)} rows name an image of the folder so", "--image", made)
    proposal.used |= {column, side}


def _choose_ending(
    columns: Mapping[str, Sequence[str]],
    eyes: Mapping[str, Mapping[str, str]],
    images: FolderImages,
    proposal: Proposal,
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
        # one name of a few may be chance
        enough = max(min(2, len(filled)), len(filled) / 2)
        common = [ending for ending, times in endings.most_common(4) if times >= enough]
        if common and endings[common[0]] > best[0]:
            best = (endings[common[0]], len(filled), column, common)
    hits, names_looked_up, column, common = best
    if not column:
        shown, begun = ", ".join(images.names[:3]), _begun_by(columns, names)
        near = f"; {begun} begins their names, but what follows differs: add a column with whole names" if begun else ""
        raise FormatError(
            images.folder,
            None,
            f"no column names its {len(images.names)} images (such as {shown}); the table has {', '.join(columns)}{near}",
        )
    proposal.used.add(column)
    pair = next(iter(eye_columns(common).items()), None)
    if pair and (side := _column_of_eyes(columns)):
        _add_made_of(columns, column, side, pair[0], images, proposal)
        return False
    if pair:
        why = f"{hits} of {names_looked_up} names begin images of the folder that end in {' and '.join(map(repr, pair[1]))}"
        proposal.add(why, "--image", column, "--ending", pair[0], "--eyes", _eye_words([pair[1], *eyes.values()]))
        return True
    proposal.add(
        f"{hits} of {names_looked_up} names begin images of the folder that end in {common[0]!r}",
        *("--image", column, "--ending", common[0]),
    )
    return False
