"""A folder belongs to the run that began in it."""

import json
import os
import time

import launches
import pytest

from mgll.formats import FormatError
from mgll.run_folder import claim_folder, locked, refuse_another_run

RUN = {"seed": 0, "betas": (0.9, 0.98), "objective": {"sclip": 1.0, "levels": None}, "options": {}}


def claim(folder, run, begun=True, **more):
    claim_folder(folder, "run.json", run, begun, "another run", more)


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


def test_what_stands_beside_may_change_and_a_folder_without_work_is_taken(tmp_path):
    claim(tmp_path, RUN, begun=False, workers=1)
    claim(tmp_path, RUN, workers=2)
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


HOLD = """
import os, sys, time
from mgll.run_folder import locked
with locked(sys.argv[1]):
    if os.fork() == 0:  # a worker of a data loader lives on for seconds when its run is killed
        time.sleep(3)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path):
    out, said = tmp_path / "run", tmp_path / "said.txt"
    holder = launches.start(["-c", HOLD, str(out)], said)
    while holder.is_alive() and "held" not in said.read_text():
        time.sleep(0.01)
    with pytest.raises(ValueError, match=rf"run is in use by process {holder.pid} on .*; wait for it"), locked(out):
        pass
    holder.kill()
    holder.join()
    with locked(out):
        assert f"process {os.getpid()} " in (out / ".lock").read_text()
    assert not list(out.iterdir())


def test_a_difference_in_content_is_told_without_the_hashes(tmp_path):
    claim(tmp_path, {"manifest_sha256": "a" * 64}, begun=False)
    with pytest.raises(ValueError, match=r"\(manifest: another content\); choose another --out"):
        claim(tmp_path, {"manifest_sha256": "b" * 64})
