"""What several runs say about their method: against brute force, simulated truths, and copies that must not count as seeds."""

import numpy as np
import pytest

from benchmark.calibrate_claims import Scatter, draw_run, draw_study, main, simulate
from benchmark.stats.numbers import Questions
from benchmark.stats.seeds import corrected, method_difference, method_number


def coins(rng: np.random.Generator, runs: int, questions: Questions, share: float) -> list[np.ndarray]:
    """Runs that pick the true option with this probability, else the next one."""
    right = rng.random((runs, len(questions.truth))) < share
    options = np.where(right, questions.truth, (questions.truth + 1) % 4)
    return list(np.eye(4)[options])


@pytest.fixture(scope="module")
def questions() -> Questions:
    rng = np.random.default_rng(0)
    names = np.array(["DR", "AMD", "Glaucoma", "Health", "MH", "ERM"])
    options = [rng.permutation(names)[:4].tolist() for _ in range(240)]
    return Questions(options, rng.integers(0, 4, 240), [f"p{number // 3}" for number in range(240)])


def test_every_number_is_its_definition(questions):
    picked = coins(np.random.default_rng(1), 1, questions, 0.6)[0]
    options, truth = np.asarray(questions.options), questions.truth
    true_codes, chosen = options[np.arange(240), truth], options[np.arange(240), picked.argmax(axis=1)]
    accuracy = {code: (chosen[true_codes == code] == code).mean() for code in questions.codes}
    wrong = {code: (options == code).any(axis=1) & (true_codes != code) for code in questions.codes}
    informed = {code: accuracy[code] - (chosen[wrong[code]] == code).mean() for code in questions.codes}
    numbers = {number.name: number.value(picked) for number in questions.totals()}
    assert numbers == {
        "overall": pytest.approx((chosen == true_codes).mean()),
        "macro": pytest.approx(np.mean(list(accuracy.values()))),
        "ten_class": pytest.approx(
            np.mean([accuracy[code] for code in ("DR", "AMD", "Glaucoma", "MH") if code in accuracy])
        ),
        "informedness": pytest.approx(np.mean(list(informed.values()))),
        "ten_informedness": pytest.approx(np.mean([informed[code] for code in ("DR", "AMD", "Glaucoma", "MH")])),
    }
    for code in questions.codes:
        assert questions.accuracy(code).value(picked) == pytest.approx(accuracy[code])
        assert questions.informedness_of(code).value(picked) == pytest.approx(informed[code])


def test_a_liking_for_a_name_moves_accuracy_and_not_informedness():
    study = draw_study(np.random.default_rng(2), Scatter(), 200, 150)
    likes_dr = np.eye(4)[(np.asarray(study.questions.options) == "DR").argmax(axis=1)]
    assert study.questions.accuracy("DR").value(likes_dr) == 1
    assert study.questions.informedness_of("DR").value(likes_dr) == pytest.approx(0, abs=1e-12)
    oracle = np.eye(4)[study.questions.truth]
    assert all(
        study.questions.informedness_of(code).value(oracle) == pytest.approx(1) for code in study.questions.codes
    )


def test_influence_of_the_overall_accuracy_is_that_of_a_mean(questions):
    picked = coins(np.random.default_rng(3), 1, questions, 0.6)
    correct = picked[0][np.arange(240), questions.truth]
    found = method_number(questions.overall(), questions, picked)
    by_patient = np.bincount(questions.group_numbers, weights=correct - correct.mean())
    assert found.from_patients == pytest.approx((by_patient**2).sum() / 240**2 * (80 / 79) ** 2)
    assert found.from_runs == 0
    assert found.estimate.value == pytest.approx(correct.mean())


def test_copies_of_a_run_do_not_narrow_the_interval(questions):
    picked = coins(np.random.default_rng(4), 1, questions, 0.6)
    one, ten = (method_number(questions.overall(), questions, picked * count).estimate for count in (1, 10))
    assert (one.low, one.high) == (pytest.approx(ten.low), pytest.approx(ten.high))


def test_runs_that_scatter_widen_the_interval_and_more_of_them_narrow_it(questions):
    rng = np.random.default_rng(5)

    def side(count: int) -> list[np.ndarray]:
        return [run for share in rng.uniform(0.3, 0.7, count) for run in coins(rng, 1, questions, share)]

    few, many = side(3), side(30)
    widths = [
        (found := method_number(questions.overall(), questions, runs).estimate).high - found.low for runs in (few, many)
    ]
    assert widths[0] > 1.5 * widths[1]
    spread = method_number(questions.overall(), questions, many)
    assert spread.between_runs == pytest.approx(0.4 / 12**0.5, rel=0.3)
    assert len(spread.by_run) == 30


def test_a_planted_difference_is_found_and_its_p_is_small(questions):
    rng = np.random.default_rng(6)
    before, after = coins(rng, 4, questions, 0.4), coins(rng, 4, questions, 0.6)
    found = method_difference(questions.overall(), questions, before, after)
    assert 0.1 < found.estimate.low < found.estimate.value < found.estimate.high < 0.3
    assert found.p < 1e-3
    assert found.runs == (4, 4)
    same = method_difference(questions.overall(), questions, before, before)
    assert same.estimate.value == 0
    assert same.p == 1


def test_power_grows_with_seeds_until_patients_are_what_lacks(questions):
    rng = np.random.default_rng(7)
    before, after = ([run for share in (0.3, 0.5, 0.7) for run in coins(rng, 1, questions, share)] for _ in range(2))
    found = method_difference(questions.overall(), questions, before, after)
    least = [found.detectable(seeds) for seeds in (2, 3, 8, 50)]
    assert least == sorted(least, reverse=True)
    assert found.power(8, least[2]) == pytest.approx(0.8, abs=1e-3)
    assert found.seeds_needed(least[2] + 1e-4) == 8
    assert found.seeds_needed(0.001) is None
    assert np.isnan(found.detectable(1))


def test_a_number_stays_within_what_is_possible(questions):
    always = [np.eye(4)[questions.truth]] * 2 + coins(np.random.default_rng(8), 1, questions, 0.2)
    found = method_number(questions.overall(), questions, always).estimate
    assert (found.low, found.high) == (0, 1)


def test_holms_correction_leaves_out_what_could_not_be_tested():
    assert corrected([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert np.isnan(corrected([np.nan])).all()


def test_claims_about_methods_hold_their_size_and_cover():
    # 100 studies: a size of 5 % is found above 12 % in one of a few hundred such tests.
    tallies = simulate(100, [3], images=150, sets=80, random=11)
    claims = {tally.claim: tally for tally in tallies}
    assert {
        "overall, difference",
        "ten_class, difference",
        "any class (Holm)",
        "overall, these weights",
    } <= claims.keys()
    for tally in tallies:
        assert tally.rejected / tally.studies <= 0.12, tally
        assert not tally.intervals or tally.coverage >= 0.88, tally


def test_two_runs_of_one_method_would_be_called_different_if_seeds_were_fixed():
    rng, scatter, rejected = np.random.default_rng(12), Scatter(), 0
    for _ in range(60):
        study = draw_study(rng, scatter, 200, 150)
        one, other = ([draw_run(rng, study, scatter)] for _ in range(2))
        rejected += method_difference(study.questions.macro(), study.questions, one, other).p < 0.05
    assert rejected / 60 > 0.15


def test_the_command_prints_and_writes_its_table(capsys, tmp_path):
    assert main(["--studies", "2", "--seeds", "2", "--out", str(tmp_path / "table.md")]) == 0
    printed = capsys.readouterr().out
    assert "| macro, difference | 2 | 2 |" in printed
    assert (tmp_path / "table.md").read_text().strip() == printed.strip()
    assert main(["--seeds", "1"]) == 1
    assert "two seeds a side" in capsys.readouterr().err
