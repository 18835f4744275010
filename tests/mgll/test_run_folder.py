"""A folder belongs to the run that began in it."""

import json

import pytest

from mgll.formats import FormatError
from mgll.run_folder import claim_folder, refuse_another_run

RUN = {"seed": 0, "betas": (0.9, 0.98), "objective": {"sclip": 1.0, "levels": None}, "options": {}}


def claim(folder, run, begun=True, **more):
    claim_folder(folder, "run.json", run, begun, "another run", **more)


def test_the_same_run_goes_on_and_its_file_says_what_it_is(tmp_path):
    claim(tmp_path, RUN, begun=False, provenance={"torch": "2"})
    claim(tmp_path, RUN, provenance={"torch": "3"})
    stored = json.loads((tmp_path / "run.json").read_text())
    assert stored == {**json.loads(json.dumps(RUN)), "provenance": {"torch": "3"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"betas": (0.9, 0.99)}, "betas: [0.9, 0.98] -> [0.9, 0.99]"),
        ({"objective": {"sclip": 0.5, "levels": None}}, "objective.sclip: 1.0 -> 0.5"),
        ({"objective": None}, "objective.sclip: 1.0 -> None"),
        ({"options": {"depth": 2}}, "options.depth: None -> 2"),
        ({"new": True}, "new: None -> True"),
    ],
)
def test_another_run_is_refused_by_what_differs_and_writes_nothing(tmp_path, change, said):
    claim(tmp_path, RUN, begun=False)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match="holds another run") as refused:
        claim(tmp_path, {**RUN, **change})
    assert said in str(refused.value)
    assert (tmp_path / "run.json").read_bytes() == before


def test_what_may_change_may_change_and_a_folder_without_work_is_taken(tmp_path):
    claim(tmp_path, RUN, begun=False)
    claim(tmp_path, {**RUN, "seed": 1}, may_change={"seed"})
    claim(tmp_path, {**RUN, "betas": (0.8, 0.9)}, begun=False)
    assert json.loads((tmp_path / "run.json").read_text())["betas"] == [0.8, 0.9]


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_work_of_nobody_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(FormatError, match=r"run\.json"):
        claim(tmp_path, RUN)


def test_more_than_six_differences_are_counted(tmp_path):
    old, new = ({str(key): value for key in range(9)} for value in (0, 1))
    with pytest.raises(ValueError, match="and 3 more"):
        refuse_another_run(tmp_path, old, new, "another run")
