"""What the documents name exists, and the README's Python runs as printed, on embedded data under the names that it uses."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

from mgll.synthetic import generate
from mllm_adapters.demo import demo_checkpoint

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
    Image.new("RGB", (64, 64), "brown").save("eye.jpg")
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), {})
    assert Path("runs/mgll/mgll.ckpt").is_file()
    assert capsys.readouterr().out.strip()
