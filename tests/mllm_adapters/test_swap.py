"""The swap command as a user types it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mllm_adapters import swap
from mllm_adapters.graft import validate


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "mllm_adapters.swap", "--help"],
        [sys.executable, str(Path(__file__).parents[2] / "recipes" / "finetune_mllm.py"), "--help"],
    ],
)
def test_help_needs_no_torch(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_default_out_report_and_next_command(
    host_directory: Path,
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "llava", "--encoder", str(make_tower(hidden_size=24)), "--checkpoint", str(host_directory)]
    assert swap.main(arguments) == 0
    said = capsys.readouterr().out
    assert "runs/llava-mgll" in said
    assert "new tensors: multi_modal_projector.linear_1.bias, multi_modal_projector.linear_1.weight" in said
    assert "train it before" in said
    assert "next: python recipes/finetune_mllm.py --model runs/llava-mgll" in said
    assert validate(Path("runs/llava-mgll")).source == str(host_directory)


def test_without_network_or_cache_it_says_what_to_type(
    make_tower: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert swap.main(["--model", "llava", "--encoder", str(make_tower())]) == 1
    said = capsys.readouterr().err
    assert "llava-hf/llava-1.5-7b-hf is neither in the cache" in said
    assert "--checkpoint DIR" in said
    assert "--checkpoint demo" in said
    assert "hf download llava-hf/llava-1.5-7b-hf" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(["--checkpoint", "./nowhere"], "no such folder"), (["--encoder", "nowhere.ckpt"], "no such tower file")],
)
def test_wrong_arguments(
    arguments: list[str], match: str, make_tower: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert swap.main(["--model", "llava", "--encoder", str(make_tower()), *arguments]) == 1
    assert match in capsys.readouterr().err
