"""Packs what the GPU check needs on a machine without a network into parts of less than 60 MB, with hashes and `unpack.py`.

    python tests/gpu/pack.py --out parts
    python tests/gpu/pack.py --out parts --images manifest.jsonl --weights runs/tower
    python tests/gpu/pack.py --out parts --installed there.txt --python 3.12 --renew transformers
    python parts/unpack.py bench           # there, once all parts lie in one folder again

The code is the working tree as git sees it, what is not committed included. `there.txt` is what `pip list --format freeze` prints
on the other machine: wheels of what it lacks are fetched and packed. What is there but too old is named, and fetched where
`--renew` names it.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from missing_packages import missing_packages

from mgll.ending import ends_in_one_line
from mgll.files import atomic_path, sha256
from mgll.formats import FormatError
from mgll.manifest import shards
from mgll.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
PART = 58_000_000
#: Platforms whose wheels a Linux machine of today takes.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


@ends_in_one_line
def main(words: Sequence[str] | None = None) -> int:
    """Pack, and say how many parts there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the parts, new or empty")
    parser.add_argument("--images", type=Path, help="manifest whose photographs are packed")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="folders, packed as weights/NAME")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are packed too")
    parser.add_argument("--installed", type=Path, help="packages of the other machine, a NAME==VERSION a line")
    parser.add_argument(
        "--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="its version of Python"
    )
    parser.add_argument("--renew", nargs="+", default=[], help="packages to fetch though an older one is there")
    options = parser.parse_args(words)
    if options.renew and not options.installed:
        raise ValueError("--renew says which packages of --installed to replace; give that too")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ValueError(f"--out {options.out}: not empty; give another folder")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        content: dict[str, Path] = {}
        for name, path in _content(options, made):
            if name in content:
                raise ValueError(
                    f"two files would be {name}: {content[name]} and {path}; give one of them another name"
                )
            content[name] = path
        parts = pack(content, options.out)
    print(f"{options.out}: {parts} parts of at most {PART / 1e6:.0f} MB; unpack.py and parts.json go with them")
    return 0


def _content(options: argparse.Namespace, made: Path) -> Iterator[tuple[str, Path]]:
    """Names in the archive and the files that go there."""
    for name in working_tree():
        yield f"code/{name}", ROOT / name
    (made / "COMMIT").write_text(provenance()["git"] + "\n", encoding="utf-8")
    yield "code/COMMIT", made / "COMMIT"
    if options.images:
        shards.pack(options.images, made / "photographs")
        yield from _files("photographs", made / "photographs", ".tar", ".jsonl")
    for folder in options.weights:
        if not folder.is_dir():
            raise FormatError(folder, None, "no such folder of weights")
        yield from _files(f"weights/{folder.resolve().name}", folder)
    if options.wheels:
        yield from _files("wheels", options.wheels, ".whl")
    if options.installed:
        fetch(options.installed, options.python, options.renew, made / "wheels")
        yield from _files("wheels", made / "wheels", ".whl")


def working_tree() -> list[str]:
    """Names of the files that git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{ROOT} is no working tree of git, of which the code could be packed: {error}") from None
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


def _files(name: str, folder: Path, *endings: str) -> Iterator[tuple[str, Path]]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and (not endings or path.suffix in endings)]
    if not found:
        raise FormatError(folder, None, f"nothing in it to pack as {name}")
    for path in found:
        yield f"{name}/{path.relative_to(folder).as_posix()}", path


def fetch(installed: Path, python: str, renew: Sequence[str], out: Path) -> None:
    """Fetch wheels of what the other machine lacks, in the versions that are installed here.

    Raises:
        ValueError: if there is no pip, or it does not find a wheel.
    """
    lacking, old = missing_packages(installed, python, renew)
    for name, said in old.items():
        print(f"not packed: {name} is there, but older than is asked for ({said})", file=sys.stderr)
    out.mkdir()
    if not lacking:
        return
    pip = shutil.which("pip")
    if pip is None:
        raise ValueError("pip is not on the PATH; fetch the wheels yourself and give their folder by --wheels")
    print(f"fetching {len(lacking)} wheels: {', '.join(lacking)}", file=sys.stderr)
    command = [pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(out)]
    command += ["--implementation", "cp", "--python-version", python]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([*command, *lacking], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"pip found no wheel: {done.stderr.strip().splitlines()[-1]}")


class _Parts(io.RawIOBase):
    """A file that is cut into parts as it is written."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self.paths: list[Path] = []
        self._room = 0

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        rest = memoryview(content).cast("B")
        count = len(rest)
        while rest:
            if not self._room:
                self.paths.append(self._folder / f"part-{len(self.paths):03d}")
                self._room = self._size
            with self.paths[-1].open("ab") as file:
                written = file.write(rest[: self._room])
            self._room -= written
            rest = rest[written:]
        return count


def pack(content: Mapping[str, Path], out: Path, size: int = PART) -> int:
    """Write files, by their names in the archive, into parts of at most `size` bytes beside `unpack.py`; returns their number."""
    counted: Counter[str] = Counter()
    with atomic_path(out) as folder:
        folder.mkdir()
        parts = _Parts(folder, size)
        with io.BufferedWriter(parts, 1 << 20) as file, tarfile.open(fileobj=file, mode="w|") as archive:
            for name, path in content.items():
                archive.add(path.resolve(), name, recursive=False, filter=_without_owner)
                counted[name.partition("/")[0]] += 1
        rows = [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256(p)} for p in parts.paths]
        listed = {"commit": provenance()["git"], "content": counted, "parts": rows}
        (folder / "parts.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
        shutil.copy(Path(__file__).with_name("unpack.py"), folder)
    return len(rows)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    sys.exit(main())
