"""Shards and manifests made to exhaust memory or the stack: refused in one line that names the file, and with little memory."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mgll.formats import FormatError
from mgll.images.files import ImageError
from mgll.images.preprocessing import open_image
from mgll.manifest.__main__ import _main as manifest_command
from mgll.manifest.records import SCHEMA, read_manifest
from mgll.manifest.shards import MAX_HEADER_BYTES, read_shard
from mgll.readers.webdataset_shards import main as reader_command

BOMB = 900_000_000
HEADER = json.dumps({"schema": SCHEMA})
SAMPLE = {"image": "x.png", "split": "train", "group": "1", "texts": {}}


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, data: bytes = b"") -> bytes:
    """A header that says `size`, or the size of the data, and the data."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size or len(data), kind
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def pax(fields: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    data = b""
    for name, value in fields.items():
        record = f" {name}={value}\n".encode()
        length = len(record) + len(str(len(record)))
        length = len(record) + len(str(length))
        data += str(length).encode() + record
    return member("././@PaxHeader", kind=kind, data=data)


def sized(header: bytes, kind: str = "") -> Callable[[Path], None]:
    """A file that begins with this header and goes on with 900 MB of nothing, which takes no space on the disk."""

    def write(path: Path) -> None:
        path.write_bytes(header)
        with path.open("r+b") as file:
            file.truncate(len(header) + BOMB + 2 * tarfile.BLOCKSIZE)

    return write


def sparse_map(path: Path) -> None:
    """An old GNU sparse file whose map goes on for ever."""
    header = bytearray(member("a.png", kind=tarfile.GNUTYPE_SPARSE))
    header[482] = 1
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:512]))
    block = bytearray((b"%011o\0" % 8) * 42 + bytes(8))
    block[504] = 1
    path.write_bytes(bytes(header) + bytes(block) * 200_000)


BOMBS: dict[str, Callable[[Path], None]] = {
    "a pax header of 900 MB": sized(member("p", BOMB, tarfile.XHDTYPE)),
    "a pax header for all members of 900 MB": sized(member("p", BOMB, tarfile.XGLTYPE)),
    "a name of 900 MB": sized(member("././@LongLink", BOMB, tarfile.GNUTYPE_LONGNAME)),
    "a link of 900 MB": sized(member("././@LongLink", BOMB, tarfile.GNUTYPE_LONGLINK)),
    "a sparse map without end": sparse_map,
    "a pax sparse map of 900 MB": sized(
        pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.png"})
        + member("a.png", BOMB)
        + b"99999999\n"
        + b"1\n" * 500_000
    ),
    "nested pax headers": lambda path: path.write_bytes(pax({"comment": "x"}) * 5000 + member("a.png")),
    "nested long names": lambda path: path.write_bytes(
        member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, data=b"a.png\0") * 5000 + member("a.png")
    ),
    "headers for all members that pile up": lambda path: path.write_bytes(
        b"".join(pax({f"k{n}": "x" * 100_000}, tarfile.XGLTYPE) + member(f"{n}.png") for n in range(100))
    ),
    "a size below 0": lambda path: path.write_bytes(member("a.png", -512) * 3),
    "a pax size below 0": lambda path: path.write_bytes(pax({"size": "-1024"}) + member("a.png") * 3),
    "a pax header of a size below 0": lambda path: path.write_bytes(member("p", -BOMB, tarfile.XHDTYPE)),
    "a size beyond every file": lambda path: path.write_bytes(member("a.png", 1 << 80)),
    "a pax size that is no number": lambda path: path.write_bytes(pax({"GNU.sparse.map": "x,y"}) + member("a.png")),
    "a long name within bounds": lambda path: path.write_bytes(pax({"path": "x" * 5000 + ".png"}) + member("a.png")),
    "a million lists in JSON": lambda path: path.write_bytes(
        member("a.png", data=b"x") + member("a.json", data=b'{"texts": [' + b"[]," * 300_000 + b"1]}") + bytes(1024)
    ),
}


def peak(code: str, *arguments: str) -> tuple[int, str, int]:
    """Exit status, what was said, and the megabytes that a process took beyond those it had before the code ran."""
    # The peak that the system reports may be that of the parent; the process's own is in its status.
    measured = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from mgll.readers.webdataset_shards import main\n"
        "from mgll.manifest.__main__ import _main as manifest\n"
        "from mgll.manifest.shards import _main as pack\n"
        "from mgll.readers.tables import read_table\n"
        "from mgll.images.preprocessing import open_image\n"
        "from PIL import Image; Image.init()\n"
        "def most(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024\n"
        f"before = most()\ntry:\n    status = {code}\nexcept ValueError as error:\n    print(error); status = 1\n"
        "print(most() - before); sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", measured, *arguments], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in ended.stderr
    *said, megabytes = ended.stdout.splitlines()
    return ended.returncode, "\n".join(said) + ended.stderr.strip(), int(megabytes)


@pytest.mark.slow_except("nested pax headers", "a pax header of 900 MB")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_one_line_with_little_memory(kind, tmp_path):
    shard = tmp_path / "bomb.tar"
    BOMBS[kind](shard)
    status, said, megabytes = peak("main(sys.argv[1:])", str(shard), "--out", str(tmp_path / "m.jsonl"))
    assert status == 1
    assert said.count("\n") == 0
    assert str(shard) in said
    assert len(said) < 500
    assert megabytes < (200 if "JSON" in kind else 40)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["json", "txt", "pkl"])
def test_a_large_file_beside_an_image_is_not_read(tmp_path, ending):
    path = tmp_path / "s.tar"
    picture = member("a.png", data=b"not read by the reader")
    sized(picture + member(f"a.{ending}", BOMB - BOMB % 512))(path)
    flags = ["--level", "x=txt", "--group", "key"] if ending == "txt" else []
    status, said, megabytes = peak("main(sys.argv[1:])", str(path), "--out", str(tmp_path / "m.jsonl"), *flags)
    assert status == 1
    assert megabytes < 40
    assert said


@pytest.mark.slow
def test_a_large_member_that_is_no_image_is_not_read(tmp_path):
    path = tmp_path / "s.tar"
    sized(member("a.png", BOMB))(path)
    status, said, megabytes = peak("open_image(sys.argv[1])", f"{path}::a.png@0")
    assert (status, said) == (1, f"{path}::a.png@0: not an image that Pillow can read")
    assert megabytes < 40


@pytest.mark.parametrize("size", [-512, 1 << 80])
def test_a_member_whose_size_is_a_lie_is_cut_short(tmp_path, size):
    (tmp_path / "s.tar").write_bytes(member("a.png", size) + bytes(1024))
    with pytest.raises(ImageError, match="the shard is cut short"):
        open_image(f"{tmp_path / 's.tar'}::a.png@0")


def test_headers_within_bounds_are_read(tmp_path):
    """Long names, comments for all members and extended attributes, as GNU tar and others write them."""
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c" * 5000}) as tar:
        for number in range(50):
            info = tarfile.TarInfo(f"{'long/' * 100}{number:02d}.png")
            info.pax_headers = {"SCHILY.xattr.user.note": "n" * (MAX_HEADER_BYTES // 4)}
            info.size = 3
            tar.addfile(info, io.BytesIO(b"png"))
    samples = list(read_shard(tmp_path / "s.tar"))
    assert [sample.key[-2:] for sample in samples] == [f"{number:02d}" for number in range(50)]
    assert samples[7].image is not None
    assert samples[7].image.read() == b"png"


# --- JSON


@pytest.mark.parametrize("text", ["[" * 400_000, '{"a":' * 150_000, '{"texts": ' + "[" * 400_000])
@pytest.mark.parametrize("flags", [(), ("--level", "x=a")])
def test_deep_json_in_a_shard_is_one_line(tmp_path, capsys, text, flags):
    closing = "".join({"[": "]", "{": "}"}.get(sign, "") for sign in reversed(text))
    for content in (text, text[: text.rindex(":") + 1] + "1" + closing if text.endswith(":") else text + closing):
        path = tmp_path / "s.tar"
        path.write_bytes(member("a.png", data=b"x") + member("a.json", data=content.encode()) + bytes(1024))
        assert reader_command([str(path), "--out", str(tmp_path / "m.jsonl"), *flags]) == 1
        said = "".join(capsys.readouterr())
        assert said.count("\n") == 1
        assert f"{path}: sample /a: " in said
        assert len(said) < 1000


@pytest.mark.parametrize("line", ["[" * 100_000, '{"schema":' * 50_000, HEADER[:-1] + ', "x": ' + "[" * 100_000])
def test_deep_json_in_a_manifest_is_one_line(tmp_path, capsys, line):
    for text in (line, HEADER + "\n" + line):
        (tmp_path / "m.jsonl").write_text(text + "\n")
        assert manifest_command(["validate", str(tmp_path / "m.jsonl")]) == 1
        said = "".join(capsys.readouterr())
        assert said.count("\n") == 1
        assert "m.jsonl, line" in said


def test_a_manifest_of_one_endless_line_is_refused_with_little_memory(tmp_path):
    path = tmp_path / "m.jsonl"
    for start in (b"", HEADER.encode() + b"\n"):
        sized(start)(path)
        status, said, megabytes = peak("manifest(['validate', sys.argv[1]])", str(path))
        assert status == 1
        assert "a line of more than 10 MB" in said
        assert megabytes < 60


def test_long_lines_within_bounds_are_read(tmp_path):
    record = SAMPLE | {"texts": {"report": ["word " * 100_000]}}
    lines = [HEADER, json.dumps(record), "x" * 10_000_001]
    (tmp_path / "m.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert len(read_manifest(tmp_path / "m.jsonl")[0].texts["report"][0]) == 500_000
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match="line 3: a line of more than 10 MB"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.slow
def test_a_large_file_is_packed_piece_by_piece(tmp_path):
    size = 200_000_000
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(size)
    (tmp_path / "m.jsonl").write_text(HEADER + "\n" + json.dumps(SAMPLE | {"image": "a.png"}) + "\n")
    code = "pack([sys.argv[1], '--out', sys.argv[2]])"
    status, _, megabytes = peak(code, str(tmp_path / "m.jsonl"), str(tmp_path / "shards"))
    assert status == 0
    assert (tmp_path / "shards" / "000000.tar").stat().st_size > size
    assert megabytes < 40


def test_a_gzipped_table_of_one_endless_line_is_refused_with_little_memory(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(b"a" * 1_000_000)
    status, said, megabytes = peak("list(read_table(sys.argv[1], ['a']))", str(tmp_path / "t.csv.gz"))
    assert (status, "a line of more than 10 MB" in said) == (1, True)
    assert megabytes < 80


@pytest.mark.slow
def test_a_workbook_that_unpacks_to_much_is_refused_with_little_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as parts:
        parts.writestr("xl/worksheets/sheet1.xml", "<row/>" * 50_000_000)
    status, said, megabytes = peak("list(read_table(sys.argv[1], ['a']))", str(tmp_path / "t.xlsx"))
    assert (status, "300 MB unpacked; save it as CSV" in said) == (1, True)
    assert megabytes < 120  # pandas
