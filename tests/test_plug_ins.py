"""The package of docs/plug_ins.md, built of the page's own blocks, adds a host, a reader, a scorer and an encoder."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.scorers.by_name import load_scorer
from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.manifest.records import read_manifest
from mgll.synthetic import generate

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plug_ins.md").read_text(encoding="utf-8")
#: A second distribution: a host that is not there, and one that has the name of another.
BROKEN = """
[mgll_graft.hosts]
broken = our_package.host:NoSuchHost
llava = our_package.host:OurVlm
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip put the page's package, without the network and beside this environment."""
    source, folder = tmp_path_factory.mktemp("our-package"), tmp_path_factory.mktemp("site")
    for name, text in re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder, source], check=True)
    about = folder / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(BROKEN, encoding="utf-8")
    return folder


def typed(installed: Path, *words: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What comes of `mgll` and these words, typed in the folder `at`."""
    code = f"import sys; sys.path[:0] = [{str(installed)!r}, {str(ROOT)!r}]; from mgll.__main__ import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=at)


@pytest.mark.slow
def test_the_commands_that_show_that_it_works(installed: Path, tmp_path: Path) -> None:
    commands = re.findall(r"^mgll (.+)$", PAGE, re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"swap", "read", "score", "synthetic", "pretrain"}
    for command in commands:
        done = typed(installed, *shlex.split(command), at=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "runs" / "our-server" / "report.html").is_file()
    assert (tmp_path / "runs" / "our-vit" / "mgll.ckpt").is_file()


def test_a_host_is_listed_and_a_broken_one_stops_nothing(installed: Path) -> None:
    done = typed(installed, "swap", "--list")
    assert done.returncode == 0
    assert "our-vlm" in done.stdout
    assert "broken" not in done.stdout
    assert sorted(done.stderr.splitlines()) == [
        "warning: the plug-in broken (our_package.host:NoSuchHost) cannot be imported: module 'our_package.host'"
        " has no attribute 'NoSuchHost'; it is left out",
        "warning: the plug-in llava of broken (our_package.host:OurVlm) is left out: the package has a host of that name itself",
    ]
    asked = typed(installed, "swap", "--model", "broken", "--encoder", "none.ckpt", "--checkpoint", "demo")
    assert asked.returncode == 1
    assert asked.stderr.splitlines()[-1].startswith(
        "error: the plug-in broken (our_package.host:NoSuchHost) cannot be imported"
    )


def test_a_host_reads_the_checkpoints_that_are_its_own(installed: Path) -> None:
    code = """
from mllm_adapters import get_host
from mllm_adapters.hosts.registry import host_of
print(host_of({"model_type": "llava", "our_vlm": True}).name, host_of({"model_type": "llava"}).name)
print(repr(get_host("our-vlm").prompt("What is seen?")))
"""
    path = f"import sys; sys.path[:0] = [{str(installed)!r}, {str(ROOT)!r}]"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", path + code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["our-vlm llava", r"'Question: <image>\nWhat is seen?\nAnswer:'"]


def test_a_reader_is_typed_by_its_name(installed: Path, tmp_path: Path) -> None:
    assert "our-clinic" in typed(installed, "read", "--help").stdout
    eyes = read_manifest(generate(tmp_path / "eyes", 3, seed=0, size=32, workers=1, progress=False))
    for place in ("glaucoma/1_left.png", "glaucoma/1_right.png", "nonsense/2_left.png"):
        (tmp_path / "ours" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(eyes[0].image, tmp_path / "ours" / place)
    done = typed(installed, "read", "our-clinic", "ours", "--out", "ours.jsonl", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ours.jsonl: 2 images of 1 groups",
        "  the folder nonsense is called like no class: 1 images",
    ]
    assert {record.group for record in read_manifest(tmp_path / "ours.jsonl")} == {"1"}


def test_a_scorer_is_named_by_its_entry_point_or_as_a_function(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    assert load_scorer("our-server:2").name == "our-server:2"
    assert load_scorer("our-server", name="bright").name == "bright"
    assert load_scorer("our_package.scorer:scorer").name == "our-server:8"
    for wrong in ("nowhere:score", "our-servers:B", "no.where:score", "our_package.scorer.inner:score"):
        with pytest.raises(FormatError, match=f"{wrong}: no such directory; give a host"):
            load_scorer(wrong)
    with pytest.raises(ValueError, match=r"our_package.scorer:no_such.* cannot be imported"):
        load_scorer("our_package.scorer:no_such")


def test_an_encoder_is_built_by_its_name(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    tower = vision_encoder("our-vit", 32, num_hidden_layers=3)
    assert tower.config.num_hidden_layers == 3
    assert tower(torch.zeros(1, 3, 32, 32)).last_hidden_state.shape == (1, 17, 64)
    with pytest.raises(ValueError, match="known: our-vit, "):
        vision_encoder("no-vit", 32)
