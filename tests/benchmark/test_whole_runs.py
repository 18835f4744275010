"""The one command on tiny instances of several hosts and on a graft: every view, four orders, both controls, one report."""

import pytest
from tiny_models import stirred_graft, stirred_host

from benchmark import run_mcq
from benchmark.cases import write_cases
from benchmark.predictions import Run, read_run

CASES = 8


@pytest.fixture(scope="module", params=["graft", "internvl", "instructblip", "qwen2-vl", "med-flamingo"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts") / request.param
    if request.param == "graft":
        stirred_graft(folder)
        return folder / "graft"
    return stirred_host(request.param, folder)


def letters(run: Run) -> list[tuple[float, ...]]:
    return [row.log_probs for row in run.predictions if row.log_probs]


def test_views_orders_and_controls_of_a_model_in_one_report(model, coloured_cases, tmp_path):
    write_cases(tmp_path / "cases.jsonl", coloured_cases(CASES, tmp_path))
    asked = ["--model", str(model), "--cases", str(tmp_path / "cases.jsonl"), "--rotations", "4"]
    asked += ["--views", "letter", "text", "option"]
    for control in ("blind", "shuffled"):
        assert run_mcq.main([*asked, "--out", str(tmp_path / control), f"--{control}"]) == 0
    controls = ["--blind-run", str(tmp_path / "blind"), "--shuffled-run", str(tmp_path / "shuffled")]
    assert run_mcq.main([*asked, "--out", str(tmp_path / "own"), *controls]) == 0

    runs = {name: read_run(tmp_path / name) for name in ("own", "blind", "shuffled")}
    for run in runs.values():
        assert len(letters(run)) == len(run.predictions) == CASES * 4
        assert all(row.option_log_probs for row in run.predictions)
    # The image decides: other images give other probabilities.
    assert letters(runs["own"]) != letters(runs["shuffled"]) != letters(runs["blind"])
    page = (tmp_path / "own" / "report.md").read_text()
    for part in (
        "Blank images instead",
        "Images of other cases instead",
        "in 4 orders",
        "two views choose the same option",
    ):
        assert part in page, part
