"""Which packages another machine lacks for this project, and which it has too old."""

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mgll.formats import FormatError, read_text

#: What the check needs beside the package itself: the text encoder that travels in a wheel, and what runs `pytest -m gpu`.
EXTRAS, BESIDE = ("", "demo"), ("pytest>=9",)


def missing_packages(installed: Path, python: str, renew: Collection[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Compare a list of packages with what this project asks for.

    Args:
        installed: file with a `NAME==VERSION` a line; other lines (links, comments) say nothing.
        python: version of Python there, such as `3.12`.
        renew: names of packages that count as lacking though they are there.

    Returns:
        What is lacking, as `NAME==VERSION` with the versions that are installed here, what it needs included; and by name what is
        there in a version that does not satisfy this project, with both versions.

    Raises:
        FormatError: if the file is missing, names no package, or not one that is to be renewed.
    """
    there = _there(installed)
    for name in map(canonicalize_name, renew):
        if name not in there:
            raise FormatError(installed, None, f"{name} is not listed, so there is nothing to renew")
        del there[name]
    lacking: dict[str, str] = {}
    old: dict[str, str] = {}
    waiting = [(Requirement(said), EXTRAS) for said in [*(requires("mgll-graft") or ()), *BESIDE]]
    while waiting:
        wanted, extras = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not any(wanted.marker.evaluate(_environment(python, extra)) for extra in extras):
            continue
        if name in there:
            if not wanted.specifier.contains(there[name], prereleases=True):
                old[name] = f"{there[name]}, not {wanted.specifier}"
        elif name not in lacking:
            try:
                lacking[name] = version(name)
            except PackageNotFoundError:  # for another Python or system than this one
                lacking[name] = ""
                continue
            waiting += [(Requirement(said), ("", *wanted.extras)) for said in requires(name) or ()]
    return sorted(f"{name}=={own}" if own else name for name, own in lacking.items()), old


def _environment(python: str, extra: str) -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}


def _there(installed: Path) -> dict[str, str]:
    found = {}
    for line in read_text(installed).splitlines():
        try:
            row = Requirement(line.strip())
        except InvalidRequirement:
            continue
        for clause in row.specifier:
            if clause.operator == "==":
                found[canonicalize_name(row.name)] = clause.version
    if not found:
        raise FormatError(installed, None, "no line says NAME==VERSION; it is what `pip list --format freeze` prints")
    return found
