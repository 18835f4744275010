"""Write docs/licences.md: the packages of requirements.lock, each with the licence that its metadata states.

Run by `make licences` when the lock has changed.
"""

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"


def locked_packages() -> dict[str, str]:
    """The packages of the lock: name -> version."""
    return dict(
        re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    )


def licence_of(package: str) -> str:
    """The licence of an installed package: its expression, else its classifiers, else the first line of what it says."""
    try:
        said = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return "not installed on the machine that wrote this page"
    classifiers = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    lines = (said.get("License") or "").strip().splitlines()
    return said.get("License-Expression") or ", ".join(classifiers) or (lines[0] if lines else "not stated")


def main() -> None:
    """Write the page."""
    rows = [f"| {name} | {version} | {licence_of(name)} |" for name, version in sorted(locked_packages().items())]
    head = "# Licences of the packages\n\nWhat the metadata of each package of `requirements.lock` states.\n\n"
    PAGE.write_text(
        head + "\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
