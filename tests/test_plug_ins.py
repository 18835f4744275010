"""A distribution beside this one adds a host, a reader, a scorer and an encoder by its entry points alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.scorers.by_name import load_scorer
from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.synthetic import generate

ROOT = Path(__file__).parents[1]
CODE = """
import sys
from collections import Counter
from benchmark.scorers.scorer import ConstantLetter
from mgll.readers.writing import write_found
from mgll.manifest.records import Record
from mllm_adapters.hosts.llava.host import Llava

class Ours(Llava):
    name, title, model_type = "our-vlm", "Our VLM", "our_vlm"

def read():
    image, out = sys.argv[1:]
    record = Record(image=image, texts={"a": ["words"]}, group="1", split="train")
    return write_found(out, lambda: ([record], Counter()))

def score(spec, device, name):
    found = ConstantLetter(spec or "C")
    found.name = name or f"ours-{spec or 'C'}"
    return found

def vit(image_size, options):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "intermediate_size": 64}
    return {"model_type": "clip_vision_model", "image_size": image_size, **shape, **options}
"""
ENTRIES = """
[mgll_graft.hosts]
our-vlm = ours:Ours
broken = ours:NoSuchHost
llava = ours:Ours
[mgll_graft.readers]
our-clinic = ours:read
[mgll_graft.scorers]
our-server = ours:score
[mgll_graft.encoders]
our-vit = ours:vit
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it: a module, and the metadata of its distribution."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ours.py").write_text(CODE, encoding="utf-8")
    about = folder / "ours-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    return folder


def typed(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = [{str(installed)!r}, {str(ROOT)!r}]; from mgll.__main__ import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


def test_a_host_is_listed_and_a_broken_one_stops_nothing(installed: Path) -> None:
    done = typed(installed, "swap", "--list")
    assert done.returncode == 0
    assert "our-vlm" in done.stdout
    assert "broken" not in done.stdout
    assert sorted(done.stderr.splitlines()) == [
        "warning: the plug-in broken (ours:NoSuchHost) cannot be imported: module 'ours' has no attribute 'NoSuchHost';"
        " it is left out",
        "warning: the plug-in llava of ours (ours:Ours) is left out: the package has a host of that name itself",
    ]
    asked = typed(installed, "swap", "--model", "broken", "--encoder", "none.ckpt", "--checkpoint", "demo")
    assert asked.returncode == 1
    assert asked.stderr.splitlines()[-1].startswith("error: the plug-in broken (ours:NoSuchHost) cannot be imported")


def test_a_reader_is_typed_by_its_name(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "eye.png").write_bytes(b"")
    assert "our-clinic" in typed(installed, "read", "--help").stdout
    done = typed(installed, "read", "our-clinic", str(tmp_path / "eye.png"), str(tmp_path / "m.jsonl"))
    assert (done.returncode, done.stderr) == (0, "")
    assert '"words"' in (tmp_path / "m.jsonl").read_text(encoding="utf-8")


def test_a_scorer_is_named_by_its_entry_point_or_as_a_function(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    assert load_scorer("our-server:B").name == "ours-B"
    assert load_scorer("our-server").name == "ours-C"
    assert load_scorer("ours:score").name == "ours-C"
    for wrong in ("nowhere:score", "our-servers:B", "no.where:score", "ours.inner:score"):
        with pytest.raises(FormatError, match=f"{wrong}: no such directory; give a host"):
            load_scorer(wrong)
    with pytest.raises(ValueError, match=r"ours:no_such.* cannot be imported"):
        load_scorer("ours:no_such")


@pytest.mark.slow
def test_a_scorer_is_asked_and_reported_on(installed: Path, tmp_path: Path) -> None:
    manifest, cases = generate(tmp_path / "eyes", 60, seed=0, size=32, workers=1, progress=False), tmp_path / "c.jsonl"
    assert typed(installed, *f"cases build --manifest {manifest} --out {cases} --min-images 1".split()).returncode == 0
    done = typed(installed, *f"score --model our-server:B --cases {cases} --out {tmp_path / 'scores'}".split())
    assert done.returncode == 0, done.stderr
    assert "ours-B" in done.stdout


def test_an_encoder_is_built_by_its_name(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    tower = vision_encoder("our-vit", 32, num_hidden_layers=3)
    assert len(tower.encoder.layers) == 3
    assert tower(torch.zeros(1, 3, 32, 32)).last_hidden_state.shape == (1, 17, 32)
    with pytest.raises(ValueError, match="known: our-vit, "):
        vision_encoder("no-vit", 32)
