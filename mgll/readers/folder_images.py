"""The image files of a folder, found by the names that tables give them: without extension, in other case, without their folder."""

import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from mgll.readers.cells import is_missing, whole_number

#: Endings of files that are taken for images where a table leaves the ending out.
IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".npz")
)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
#: A column in the name of an image.
_COLUMN = re.compile(r"\{([^{}]+)\}")
#: More files are not walked through: names must be exact then.
_MOST_FILES = 5_000_000


def image_columns(image: str) -> tuple[str, ...]:
    """The columns of which the name of an image is made: one, or those that stand in braces."""
    named = tuple(name for name in _COLUMN.findall(image) if name != "eye")
    return named or (image,)


def image_made_of(row: Mapping[str, str], image: str) -> str:
    """The name of a row's image by the columns in braces; empty where one of them is."""
    cells = {name: whole_number(row[name]) for name in image_columns(image)}
    return "" if any(map(is_missing, cells.values())) else _COLUMN.sub(lambda name: cells[name[1]], image)


class FolderImages:
    """Image files below a folder, by several spellings of their names."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is read until a name is not exact.

        Args:
            folder: the folder.
        """
        self.folder = Path(folder)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Paths of all image files, relative to the folder, sorted."""
        found = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            under = Path(place).relative_to(self.folder)
            found += [(under / name).as_posix() for name in files if Path(name).suffix.lower() in IMAGE_ENDINGS]
            if len(found) > _MOST_FILES:
                break
        return tuple(sorted(name for name in found if not PurePosixPath(name).name.startswith(".")))

    def why_none(self) -> str:
        """Why there are no images in the folder, in words, and what to do."""
        if zipfile.is_zipfile(self.folder):
            return "this is an archive; unpack it, and name the folder"
        if not self.folder.is_dir():
            return "this is a file; name the folder of the images" if self.folder.exists() else "no such folder"
        archives = sorted(path.name for path in self.folder.iterdir() if path.suffix.lower() in _ARCHIVES)
        return "no image file in this folder" + (f"; it holds {archives[0]}: unpack it" if archives else "")

    def find(self, name: str, notes: Counter[str]) -> str:
        """The path below the folder of the file that a table calls `name`; the name itself where no file is called so.

        How it was found is counted in `notes` where the name is not exact.

        Raises:
            ValueError: where several files could be meant.
        """
        exact = self.folder / name
        if not name or (exact.exists() and not exact.is_dir()):
            return name
        parts = _parts(name)
        for key, said in _WAYS:
            same = [found for found in self._by(key).get(key(name), ()) if _ends_alike(parts, _parts(found))]
            deepest = max((min(_depth(found), len(parts)) for found in same), default=0)  # what both say of the folder
            near = [found for found in same if min(_depth(found), len(parts)) == deepest]
            if len(near) > 1:
                listed = ", ".join(near[:4])
                raise ValueError(
                    f"{name!r} may be {len(near)} files ({listed}); name its folder and ending (--ending .png adds one to all)"
                )
            if near:
                moved = PurePosixPath(near[0]).name == PurePosixPath(_slashed(name)).name
                notes["the image lies in another folder than the table says" if moved else said] += 1
                return near[0]
        return name

    @cached_property
    def _tables(self) -> dict[Callable[[str], str], dict[str, list[str]]]:
        return {}

    def _by(self, key: Callable[[str], str]) -> dict[str, list[str]]:
        if key not in self._tables:
            table: defaultdict[str, list[str]] = defaultdict(list)
            for name in self.names:
                table[key(name)].append(name)
            self._tables[key] = dict(table)
        return self._tables[key]


def _slashed(name: str) -> str:
    return name.replace("\\", "/").strip("/")


def _parts(name: str) -> tuple[str, ...]:
    """Folders that a name has, in lower case, without the file's own name."""
    return PurePosixPath(_slashed(name).lower()).parts[:-1]


def _depth(name: str) -> int:
    return len(_parts(name))


def _ends_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one folder's path ends in the other's: `C:/study/left` and `left` do, `right` and `left` do not."""
    length = min(len(first), len(second))
    return first[len(first) - length :] == second[len(second) - length :]


def _name(name: str) -> str:
    return PurePosixPath(_slashed(name).lower()).name


def _stem(name: str) -> str:
    own = PurePosixPath(_name(name))
    return own.stem if own.suffix in IMAGE_ENDINGS else own.name


def _number(name: str) -> str:
    """A name that is a number, without the zeros and the decimals that a spreadsheet takes away or adds."""
    stem = re.sub(r"[.,]0+$", "", _stem(name))
    return (stem.lstrip("0") or "0") if stem.isdigit() else f"?{name.lower()}"


#: From the nearest spelling to the furthest: what names that are spelled so share, and what is said of it.
_WAYS: tuple[tuple[Callable[[str], str], str], ...] = (
    (_name, "the image's name has other case in the table than in the folder"),
    (_stem, "the image's name has no ending, or another one, in the table"),
    (_number, "the image's number has other zeros in the table than in the folder"),
)
