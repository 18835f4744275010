"""The one command on a graft and on hosts of four kinds: every view, every order, both controls, any batch size, one report."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import stirred_graft, stirred_host

from benchmark import run_mcq
from benchmark.cases.case import Case, write_cases
from benchmark.predictions.file import FILE, Run, read_run

#: A graft; a Q-Former that reads the question; tiles of an image; positions along three axes; attention across to the image.
MODELS = ("graft", "instructblip", "internvl", "qwen2-vl", "med-flamingo")
HOW = ("--views", "letter", "text", "option", "--rotations", "4")


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return stirred_graft(folder) if request.param == "graft" else stirred_host(request.param, folder / request.param)


@pytest.fixture(scope="module")
def asked(coloured_cases: Callable[..., list[Case]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    write_cases(folder / "cases.jsonl", coloured_cases(6, folder))
    return folder / "cases.jsonl"


def score(model: Path, cases: Path, out: Path, *further: object) -> Run:
    command = ["--model", model, "--cases", cases, "--out", out, *HOW, *further]
    assert run_mcq.main([str(part) for part in command]) == 0
    return read_run(out)


@pytest.mark.slow
def test_views_orders_controls_batches_and_report(model: Path, asked: Path, tmp_path: Path) -> None:
    blind = score(model, asked, tmp_path / "blind", "--blind")
    shuffled = score(model, asked, tmp_path / "shuffled", "--shuffled", "--batch-size", "4")
    beside = ("--blind-run", tmp_path / "blind", "--shuffled-run", tmp_path / "shuffled")
    own = score(model, asked, tmp_path / "own", *beside, "--batch-size", "6")
    single = score(model, asked, tmp_path / "single", "--batch-size", "1")

    assert [(row.case, row.rotation) for row in own.predictions] == [
        (f"case-{case:03d}", rotation) for case in range(6) for rotation in range(4)
    ]
    for row, alone in zip(own.predictions, single.predictions, strict=True):
        assert (row.chosen, row.likeliest, row.text, row.said) == (
            alone.chosen,
            alone.likeliest,
            alone.text,
            alone.said,
        )
        for option in range(4):
            assert row.probability(option) == pytest.approx(alone.probability(option), abs=1e-4)
        assert row.option_log_probs == pytest.approx(alone.option_log_probs, abs=1e-3)
    for other in (blind, shuffled):
        assert [row.prompt_sha256 for row in other.predictions] == [row.prompt_sha256 for row in own.predictions]
        pairs = zip(own.predictions, other.predictions, strict=True)
        assert any(row.log_probs != pytest.approx(seen.log_probs, abs=1e-4) for row, seen in pairs), "it looks"

    report = (tmp_path / "own" / "report.md").read_text()
    for said in ("all 4 right", "Blank images", "Images of other cases", "Letters and words", "Brier"):
        assert said in report
    assert json.loads((tmp_path / "own" / "run.json").read_text())["settings"]["rotations"] == 4
    before = (tmp_path / "own" / FILE).read_bytes()
    assert score(model, asked, tmp_path / "own", *beside, "--batch-size", "6").predictions == own.predictions
    assert (tmp_path / "own" / FILE).read_bytes() == before
