"""A class table: codes and names of the classes of one field, their explanations, and which of them go together.

The fundus table is `mgll.vocabulary.diseases.FUNDUS`. Other fields bring their own (`mgll.readers.class_tables`); such a table
travels in the header of the manifest, and from there in that of the cases, so that nothing has to name it twice.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import MappingProxyType

#: Stands in `excludes` for every class but those that the class implies.
ALL_OTHERS = "*"
#: Of a table in a header: more is no class table.
_MOST_CLASSES = 2000


@dataclass(frozen=True)
class Disease:
    """One class of a table.

    Attributes:
        code: short name, unique (`DR`, `No AMD`, `Mild NPDR`).
        name: name as the options of questions and the disease texts show it.
        explanation: clinical explanation, the second granularity (Table 10 where the paper has the disease).
        cases: number of cases in the paper's benchmark (Table 14); 0 where the disease is not one of its 25 classes.
        implies: codes that hold whenever this one does.
        synonyms: lower-case names under which data sets list the disease, its `name` and `code` among them.
        excludes: codes that can't hold beside this one; `*` are all but those that it implies.
    """

    code: str
    name: str
    explanation: str
    cases: int
    implies: tuple[str, ...]
    synonyms: tuple[str, ...]
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of one field.

    Attributes:
        name: what the table is called (`fundus`, `chest_xray`, or the name of the file that it was read from).
        classes: code -> class, in the order of the table.
        overlaps: code -> codes that may also hold for an image that is not labelled with them; symmetric.
        negative_of: negative class -> its disease. A negative holds for every image without the disease whose labels say more
            than what is absent.
        normal: code of the class of images that show nothing; None where there is none.
        other: code of the class of all diseases outside the paper's list; None where there is none.
        grades: whether a class that implies another and has no cases of its own is a grade, which counts as the other in questions.
    """

    name: str
    classes: Mapping[str, Disease]
    overlaps: Mapping[str, frozenset[str]]
    negative_of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    normal: str | None = None
    other: str | None = None
    grades: bool = False

    @cached_property
    def synonyms(self) -> Mapping[str, str]:
        """Lower-case name of a class -> its code."""
        return MappingProxyType({name: own.code for own in self.classes.values() for name in own.synonyms})

    @cached_property
    def _broader(self) -> Mapping[str, frozenset[str]]:
        return {code: self.implied([code]) - {code} for code in self.classes}

    @cached_property
    def _narrower(self) -> Mapping[str, frozenset[str]]:
        return {
            code: frozenset(other for other in self.classes if code in self._broader[other]) for code in self.classes
        }

    @cached_property
    def _excluded(self) -> Mapping[str, frozenset[str]]:
        """Code -> what can't hold beside it by its own line: all that is named, and whatever is narrower than that."""
        found = {}
        for code, own in self.classes.items():
            named = set(self.classes) - self.implied([code]) if ALL_OTHERS in own.excludes else set(own.excludes)
            found[code] = frozenset(named.union(*(self._narrower[other] for other in named)))
        return found

    def parents(self, code: str) -> tuple[str, ...]:
        """What a grade grades; nothing for any other class.

        Raises:
            KeyError: for a code that is not in the table.
        """
        own = self.classes[code]
        return own.implies if self.grades and not own.cases else ()

    def implied(self, labels: Iterable[str]) -> frozenset[str]:
        """The labels and everything that they imply.

        Raises:
            KeyError: for a label that is not in the table.
        """
        held: set[str] = set()
        waiting = list(labels)
        while waiting:
            code = waiting.pop()
            if code not in held:
                held.add(code)
                waiting.extend(self.classes[code].implies)
        return frozenset(held)

    def true(self, labels: Iterable[str]) -> frozenset[str]:
        """Every code that holds for an image with these labels: themselves, what they imply, and the negatives of what is absent.

        Labels that only say what is absent (`No DR`) come from a data set that asked for nothing else: no other disease is known to
        be absent then.

        Raises:
            KeyError: for a label that is not in the table.
        """
        held = self.implied(labels)
        if held and held <= self.negative_of.keys():
            return held
        return held | {negative for negative, disease in self.negative_of.items() if disease not in held}

    def possible(self, labels: Iterable[str]) -> frozenset[str]:
        """Every code that holds or may hold for an image with these labels; none of them can be a distractor.

        Beyond `true`: what overlaps with a label, and what is narrower (DR may be PDR, No AMD may be Health) unless the labels are
        as narrow themselves. A disease outside the paper's 25 is an "other disease" to them, and the other way round.
        An image whose labels say `No DR` and perhaps the absence of more may have every disease that they do not exclude; the
        images of the paper's own three negative classes count as showing nothing else.
        What the labels exclude is not possible: Health beside a disease, a disease beside its negative.

        Raises:
            KeyError: for a label that is not in the table.
        """
        labels = tuple(labels)
        stated = self.implied(labels)
        narrowest = [label for label in labels if not any(label in self._broader[other] for other in labels)]
        near = {code for label in narrowest for code in self.overlaps[label] | self._narrower[label]}
        off_list = self._off_list
        if self.other in stated:
            near |= off_list
        if "No DR" in stated and stated <= self.negative_of.keys():
            near |= self.classes.keys()
        possible = set(self.implied(stated | near))
        if self.other and stated & off_list:
            possible.add(self.other)
        if self.normal and stated - {self.normal, *self.negative_of}:
            possible.discard(self.normal)
        # of two grades the readers may have meant either, so that in a table of grades the negatives alone deny
        for code in stated & self.negative_of.keys() if self.grades else stated - {self.normal}:
            possible -= self._excluded[code] - stated - (frozenset() if self.grades else self.overlaps[code])
        return frozenset(possible) | self.true(labels)

    @cached_property
    def _off_list(self) -> frozenset[str]:
        if not self.other:
            return frozenset()
        own = {code for code, one in self.classes.items() if not one.cases and not one.implies}
        return frozenset(own - self.negative_of.keys())

    def exclude(self, first: str, second: str) -> bool:
        """Whether the first class, or one that it implies, says that the second or one that it implies can't hold beside it."""
        others = self.implied([second])
        return any(self._excluded[code] & others for code in self.implied([first]))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        entry = self.header()["classes"]
        return class_table, (entry["name"], entry["rows"])  # type: ignore[index]

    def header(self) -> dict[str, object]:
        """The table as an entry `classes` of a header, one object a class; nothing for the fundus table, which needs no saying."""
        if self.negative_of:
            return {}
        rows = []
        for code, own in self.classes.items():
            row = {name: value for name, value in asdict(own).items() if value}
            rows.append(row | ({"may_also_be": sorted(self.overlaps[code])} if self.overlaps[code] else {}))
        return {"classes": {"name": self.name, "rows": rows}}


def class_table(name: str, rows: Sequence[Mapping[str, object]]) -> ClassTable:
    """A class table of its rows.

    Args:
        name: what it is called.
        rows: for each class `code` or `name` or both, and perhaps `explanation` (text) and `synonyms`, `implies`, `excludes` and
            `may_also_be` (lists of codes, names or synonyms in any case; `*` in `excludes` is every other class).

    Raises:
        ValueError: for a row without name, a name of two classes, a reference to no class, or a class that excludes what it
            implies.
    """
    if not 0 < len(rows) <= _MOST_CLASSES:
        raise ValueError(f"expected 1 to {_MOST_CLASSES} classes, found {len(rows)}")
    named = [_own_names(number, row) for number, row in enumerate(rows, start=1)]
    code_of: dict[str, str] = {}
    for code, title, synonyms in named:
        for spelled in dict.fromkeys([code.lower(), title.lower(), *synonyms]):
            if code_of.setdefault(spelled, code) != code or [own for own, _, _ in named].count(code) > 1:
                raise ValueError(f"{spelled!r} is a name of two classes ({code_of[spelled]!r} and {code!r})")

    def codes(row: Mapping[str, object], of: str, column: str) -> tuple[str, ...]:
        found = dict.fromkeys(
            ALL_OTHERS if said == ALL_OTHERS and column == "excludes" else code_of.get(said.lower(), f"?{said}")
            for said in _texts(row, column)
        )
        if unknown := [code[1:] for code in found if code.startswith("?")]:
            raise ValueError(
                f"class {of!r}: {column} names {', '.join(map(repr, unknown))}, which no class of the table is called"
            )
        return tuple(code for code in found if code != of)

    classes: dict[str, Disease] = {}
    overlaps: dict[str, set[str]] = {code: set() for code, _, _ in named}
    for row, (code, title, synonyms) in zip(rows, named, strict=True):
        spelled_all = tuple(dict.fromkeys([title.lower(), code.lower(), *synonyms]))
        explanation = " ".join(str(row.get("explanation") or "").split())
        implies, excludes = codes(row, code, "implies"), codes(row, code, "excludes")
        classes[code] = Disease(code, title, explanation, 0, implies, spelled_all, excludes)
        for other in codes(row, code, "may_also_be"):
            overlaps[code].add(other)
            overlaps[other].add(code)
    normal = next((code for code, own in classes.items() if ALL_OTHERS in own.excludes), None)
    table = ClassTable(
        name,
        MappingProxyType(classes),
        MappingProxyType({code: frozenset(others) for code, others in overlaps.items()}),
        normal=normal,
    )
    for code in classes:
        if torn := sorted(other for other in table.implied([code]) - {code} if table.exclude(code, other)):
            raise ValueError(f"class {code!r} implies and excludes {', '.join(map(repr, torn))}")
    return table


def table_of_header(header: Mapping[str, object]) -> ClassTable | None:
    """The class table that the header of a manifest or of cases holds; None where it has none and the fundus table is meant.

    Raises:
        ValueError: for an entry `classes` that is no table.
    """
    entry = header.get("classes")
    if entry is None:
        return None
    if not (isinstance(entry, Mapping) and isinstance(entry.get("rows"), list) and isinstance(entry.get("name"), str)):
        raise ValueError(
            'field classes: expected {"name": ..., "rows": [...]} with an object for each class,'
            f" found {json.dumps(entry)[:80]}"
        )
    if wrong := next((row for row in entry["rows"] if not isinstance(row, Mapping)), None):
        raise ValueError(f"field classes: expected an object for each class, found {wrong!r:.80}")
    try:
        return class_table(entry["name"], entry["rows"])
    except ValueError as error:
        raise ValueError(f"field classes: {error}") from None


def _own_names(number: int, row: Mapping[str, object]) -> tuple[str, str, tuple[str, ...]]:
    code, title = (" ".join(str(row.get(column) or "").split()) for column in ("code", "name"))
    if not (code or title):
        raise ValueError(f"class {number} has neither code nor name")
    return code or title, title or code, tuple(dict.fromkeys(text.lower() for text in _texts(row, "synonyms")))


def _texts(row: Mapping[str, object], column: str) -> list[str]:
    value = row.get(column) or []
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{column}: expected a list of texts, found {value!r:.80}")
    return [" ".join(text.split()) for text in value if text.strip()]
