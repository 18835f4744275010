"""A checkpoint as its makers publish it, taken through the documented commands as they are typed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmark.run_mcq import main as run_mcq
from mllm_adapters import ask, convert, swap

sys.path.append(str(Path(__file__).parents[2] / "recipes"))
import finetune_mllm


@dataclass(frozen=True)
class Folders:
    """What the commands wrote."""

    converted: Path
    grafted: Path
    tuned: Path
    scores: Path


def five_commands(
    model: str,
    checkpoint: Path,
    encoder: Path,
    cases: Path,
    image: Path,
    out: Path,
    parts: Mapping[str, Path] | None = None,
) -> Folders:
    """Convert, swap, fine-tune, score and ask; every command must succeed."""
    named = [word for name, path in (parts or {}).items() for word in ("--part", f"{name}={path}")]
    done = Folders(out / "host", out / "graft", out / "tuned", out / "scores")
    of = ["--model", model, "--checkpoint", str(checkpoint)]
    assert convert.main([*of, *named, "--out", str(done.converted)]) == 0
    assert swap.main([*of, *named, "--encoder", str(encoder), "--out", str(done.grafted)]) == 0
    settings = ["--rank", "2", "--batch_size", "2", "--steps", "1", "--out", str(done.tuned)]
    with patch.object(
        sys, "argv", ["finetune_mllm.py", "--model", str(done.grafted), "--cases", str(cases), *settings]
    ):
        assert not finetune_mllm.main()
    assert run_mcq(["--model", str(done.tuned), "--cases", str(cases), "--out", str(done.scores)]) == 0
    assert ask.main([str(done.tuned), "What is it?", "--image", str(image), "--max-new-tokens", "2"]) == 0
    return done
