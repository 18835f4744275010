"""The README's Python runs as printed, on embedded data under the names that it uses."""

import re
from pathlib import Path

import pytest
from PIL import Image

from mgll.synthetic import generate
from mllm_adapters.demo import demo_checkpoint

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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
