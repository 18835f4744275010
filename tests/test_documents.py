"""What the documents name exists, and the README's Python runs as printed, on embedded data under the names that it uses."""

import csv
import importlib.util
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import read_manifest
from mgll.synthetic import generate
from mgll.vocabulary.diseases import diseases
from mllm_adapters.demo import demo_checkpoint
from mllm_adapters.demo.host import save_random_tower

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PATHS = re.compile(r"\b(?:tests|mgll|mllm_adapters|benchmark|recipes|docs)/[\w/.-]+\.(?:py|md|csv|yaml|jsonl?|html)\b")
LINKS = re.compile(r"\]\((?!https?:|#)([^)#]+)")
MODULES = re.compile(r"python -m ((?:mgll|mllm_adapters|benchmark)[\w.]*\w)")
#: Paths that stand for others, or that the reader makes.
MADE = {"recipes/configs/ablations/TABLE.yaml"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in PATHS.findall(text) if path not in MADE and not (ROOT / path).is_file()] == []
    assert [link for link in LINKS.findall(text) if not (document.parent / link).exists()] == []
    assert [module for module in MODULES.findall(text) if importlib.util.find_spec(module) is None] == []


@pytest.mark.slow
def test_the_python_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generate("eyes", 120, seed=0, progress=False)
    lines = Path("eyes/manifest.jsonl").read_text(encoding="utf-8")
    Path("fundus.jsonl").write_text(lines.replace('"image":"', '"image":"eyes/'), encoding="utf-8")
    Path("path/to").mkdir(parents=True)
    Path("path/to/llava").symlink_to(demo_checkpoint("demo").resolve())
    Path("runs").mkdir()
    Path("runs/internvl-mgll").symlink_to("graft")
    Image.new("RGB", (64, 64), "brown").save("eye.jpg")
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), {})
    assert Path("runs/mgll/mgll.ckpt").is_file()
    assert capsys.readouterr().out.strip()


def as_typed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command, `python -m MODULE ...` or `python recipes/FILE.py ...`, in this process."""
    python, *words = words
    assert python == "python"
    if words[0] == "-m":
        name, words = words[1], words[2:]
        module = import_module(name if hasattr(import_module(name), "_main") else f"{name}.__main__")
        return int(module._main(words))
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setattr(sys, "argv", words)
    return int(import_module(Path(words[0]).stem).main())


@pytest.mark.slow
def test_the_quickstart_leads_from_a_table_to_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps 1 and 4, and the probe of step 2 on a random tower, exactly as the README prints them."""
    monkeypatch.chdir(tmp_path)
    eyes = read_manifest(generate(tmp_path / "FOLDER", 320, seed=0, size=32, progress=False))
    with Path("labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "patient", "finding"))
        for eye in eyes:
            rows.writerow((Path(eye.image).relative_to(tmp_path / "FOLDER"), eye.group, diseases()[eye.labels[0]].name))
    save_random_tower(Path("runs/mgll/mgll.ckpt"), encoder="vit-nano-16", preprocessing=Preprocessing(size=32))
    block = re.search(r"^```bash\nsource .*?\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block
    commands = [shlex.split(line) for line in block[1].splitlines() if line.startswith("python ")]
    ran = [words for words in commands if words[2].startswith(("mgll.readers", "mgll.manifest", "mgll.linear"))]
    ran += [words for words in commands if words[1] == "recipes/build_benchmark.py"]
    assert len(ran) == 4
    for words in ran:
        assert as_typed(words, monkeypatch) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
    assert "nan" not in capsys.readouterr().out
    assert all(Path(f"runs/questions/{split}.jsonl").is_file() for split in ("train", "test"))
