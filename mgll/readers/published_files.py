"""Where the files of a published data set lie: archives nest their folders, and copies of a set leave out the outer ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mgll.formats import FormatError
from mgll.manifest.shards import IMAGE_ENDINGS

#: How many folders may lie around what is looked for.
_DEPTH = 4


def find(folder: Path, *patterns: str) -> Path:
    """The file or folder that matches the first of these patterns with a match, as near to `folder` as there is one.

    Args:
        folder: where to look, or the file itself.
        patterns: relative paths with `*`, in the order of preference.

    Raises:
        FormatError: if there is none, or if several lie equally near.
    """
    if folder.is_file() and any(folder.match(pattern) for pattern in patterns):
        return folder
    for pattern in patterns:
        for depth in range(_DEPTH + 1):
            found = sorted(folder.glob("*/" * depth + pattern)) if folder.is_dir() else []
            if len(found) > 1:
                raise FormatError(
                    folder,
                    None,
                    f"{len(found)} times {pattern} in it, such as {found[0]} and {found[1]}; name one's folder",
                )
            if found:
                return found[0]
    raise FormatError(folder, None, f"no {' or '.join(patterns)} in it, nor in a folder of it")


def find_if_any(folder: Path, *patterns: str) -> Path | None:
    """As `find`, but None if there is none."""
    if any(any(folder.glob("*/" * depth + pattern)) for pattern in patterns for depth in range(_DEPTH + 1)):
        return find(folder, *patterns)
    return None


def images_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)


def by_name(images: Sequence[Path]) -> dict[str, Path]:
    """File name in lower case -> path; lists write `.jpg` where files are called `.JPG`."""
    return {path.name.lower(): path for path in images}


def words_of_lines(path: Path, least: int) -> Iterator[list[str]]:
    """The words of each line of a list that has no header.

    Raises:
        FormatError: for a line of fewer words.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(path, None, f"not UTF-8 text ({error.reason})") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words and len(words) < least:
            raise FormatError(path, number, f"expected {least} words or more, found {line.strip()!r}")
        if words:
            yield words
