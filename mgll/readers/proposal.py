"""A proposed command: its flags, and for each why."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Proposal:
    """Flags of the command, and why.

    Attributes:
        flags: the words of the command after folder and table.
        why: a line for each choice.
        used: names of the columns that a flag names.
    """

    flags: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def add(self, why: str, *flags: str) -> None:
        """Add flags, or with none of them a note."""
        self.flags += flags
        self.why.append(f"{' '.join(map(shlex.quote, flags)) or 'note'}: {why}")


def merged_eyes(
    columns: Mapping[str, Sequence[str]], templates: Mapping[str, Mapping[str, str]], used: set[str]
) -> dict[str, list[str]]:
    """Cells of every column that is not yet used, those of both eyes under their template."""
    of_eye = {name: template for template, sides in templates.items() for name in sides}
    found: dict[str, list[str]] = {}
    for name, cells in columns.items():
        if name not in used and of_eye.get(name) not in used:
            found.setdefault(of_eye.get(name, name), []).extend(cells)
    return found


def quoted(*columns: str) -> str:
    """Names of columns as a flag takes several of them: with commas between, and quotes around one that has a comma."""
    return ",".join(f'"{name}"' if "," in name else name for name in columns)
