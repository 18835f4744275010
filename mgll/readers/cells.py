"""What a cell of somebody else's table says: nothing, a bare value, or words."""

import re

#: What programs and people write where they have nothing to say: pandas' list and the usual others.
_MISSING = re.compile(
    r"[-–—?.]*|\[\]|<?(-?nan?|nat|null?|nil|none)>?|#?n/a|#na|n\.a\.?|undefined|unknown|unspecified|missing|anonym(ous|i[sz]ed)"
    r"|not (available|applicable|recorded|known)"
)
_TRUE = frozenset(
    ("true", "yes", "y", "t", "x", "ja", "j", "oui", "si", "sí", "sì", "positive", "positiv", "pos", "present", "+")
)
_FALSE = frozenset(("false", "no", "n", "f", "nein", "non", "negative", "negativ", "neg", "absent"))
#: Those of them that are no words of their own either where no one-hot column is meant.
_YES_OR_NO = frozenset(("true", "yes", "y", "false", "no", "n", "ja", "nein", "oui", "non", "sí"))


def is_missing(cell: str) -> bool:
    """Whether a cell stands for nothing: empty, `nan`, `None`, `N/A`, `NULL`, `unknown` and the like, in any case."""
    return bool(_MISSING.fullmatch(cell.strip().lower()))


def is_bare_value(cell: str) -> bool:
    """Whether a cell holds a number, a date, a sign or yes and no: a value that says nothing without the name of its column."""
    word = cell.strip().lower()
    return word in _YES_OR_NO or not any(letter.isalpha() for letter in word) or _is_number(word)


def is_positive(cell: str) -> bool | None:
    """What a cell of a one-hot column says: True for 1, False for 0, None for -1 (uncertain); yes and no count as 1 and 0.

    Raises:
        ValueError: for any other cell.
    """
    word = cell.strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    number = float(word.replace(",", ".")) if _is_number(word) else None
    if number not in (1.0, 0.0, -1.0):
        raise ValueError(f"expected 1, 0, -1 or nothing, found {cell!r}")
    return None if number == -1.0 else number == 1.0


def whole_number(cell: str) -> str:
    """A whole number without the decimals that a spreadsheet gives it (`2.0`, `2,00`); any other cell as it is."""
    return re.sub(r"[.,]0+$", "", cell) if re.fullmatch(r"-?\d+[.,]0+", cell) else cell


def _is_number(word: str) -> bool:
    try:
        float(word.replace(",", "."))
    except ValueError:
        return False
    return True
