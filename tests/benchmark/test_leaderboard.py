"""What a leaderboard adds to its readings: retrieval as a mean over runs, notes said once, ranks, and pictures."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmark.leaderboard.content import Board, build_board, critical_difference
from benchmark.leaderboard.pictures import Pictures, panels
from benchmark.leaderboard.tables import class_frame, class_table, rank_note, rank_table, retrieval_table, sentences
from benchmark.leaderboard.writing import card, markdown, page
from benchmark.report.curves import curve_panel
from mgll.evaluation.embedding import OTHER, SEVERAL, Embedding
from mgll.evaluation.evaluation import Evaluation
from mgll.evaluation.reading import Reading
from mgll.evaluation.zero_shot import Retrieval
from mgll.readers.class_tables import read_classes
from mgll.tower.curve import Curve
from mgll.vocabulary.diseases import FUNDUS


def evaluation(method: str, seed: int, signal: float, shares: tuple[float, float], *skipped: str) -> Evaluation:
    """An evaluation of 40 patients; `shares` are recall at 1 of texts and of images, none where they are 0."""
    random, truth = np.random.default_rng(seed), np.arange(80).reshape(40, 2) % 3 == 0
    images = tuple(f"{n}.png" for n in range(40))
    scores = signal * truth + random.normal(size=truth.shape)
    probe = Reading("probe", ("DR", "Drusen"), images, tuple(("", name) for name in images), truth, scores)
    text, image = ({1: share, 5: 1.0} for share in shares)
    found = {"disease": Retrieval("disease", 7, 40, text, image, (2.0, 3.0 + seed))} if any(shares) else {}
    return Evaluation(method, f"{method}{seed}", {"probe": probe}, found, 0.1, skipped)


@pytest.fixture(scope="module")
def board() -> Board:
    methods = {
        "<mgll>": [evaluation("<mgll>", 0, 3.0, (0.5, 0.25), "a"), evaluation("<mgll>", 1, 3.0, (0.7, 0.35), "a")],
        "random": [evaluation("random", 2, 0.1, (0, 0), "a", "no text side")],
    }
    return build_board({"one": methods, "two": methods})


def test_retrieval_is_the_mean_over_runs_of_towers_that_bring_their_text_side(board):
    table = retrieval_table(board, "one")
    assert table is not None
    assert table.columns[2:4] == ("Text R@1", "Text R@5")
    ((method, level, *cells),) = table.rows
    assert (method.text, level) == ("<mgll>", ("disease", "40 images, 7 texts"))
    assert [cell.text.replace("\u202f", " ") for cell in cells] == [
        "60.0 %",
        "100.0 %",
        "2",
        "30.0 %",
        "100.0 %",
        "3.5",
    ]
    assert "Retrieval between images and texts" in page(board)
    assert "| Text R@1 |" in markdown(board)


def test_a_note_is_said_once_and_of_whom(board):
    said = sentences(board)
    assert said == ["one: a", "one, random: no text side", "two: a", "two, random: no text side"]
    assert "- one: no text side" in card(board, "random")
    assert "no text side" not in card(board, "<mgll>")
    assert "- Architecture: small." in card(board, "random", ["Architecture: small."])


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_published_quantiles(methods, quantile):
    """Demšar (2006), Table 5a."""
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 12))
    assert critical_difference(methods, 12) == pytest.approx(expected, abs=1e-3)


def test_every_set_says_on_how_much_it_was_read(board):
    said = "Read on 40 images of 40 patients, 2 classes."
    assert page(board).count(said) == markdown(board).count(said) == 2


def test_ranks_are_of_the_probe_on_each_set(board):
    table = rank_table(board)
    assert table.columns == ("Method", "one", "two", "Mean of probe", "Mean of all readings")
    assert [cell.text for cell in table.rows[0]] == ["<mgll>", "1", "1", "1.00", "1.00"]
    note = rank_note(board)
    assert "Over 2 sets the mean ranks of 2 methods differ at 5 % from 1.39 on" in note
    assert "with so few sets they are no test" in note


def test_places_are_drawn_by_class_and_by_source_with_one_key(board):
    points = np.array([[0, 0], [1, 1], [0.5, 0.25], [0, 1]], dtype=np.float32)
    embedding = Embedding(points, ("DR", "DR", SEVERAL, OTHER), ("<a>", "b", "b", "b"), 9)
    by_class, by_source = panels({"<mgll>": embedding, "random": embedding})
    assert by_class.key == (("Diabetic Retinopathy", 0), (SEVERAL, 8), (OTHER, 9))
    assert by_source.key == (("b", 0), ("<a>", 1))
    like_a_class = Embedding(points, ("DR",) * 4, ("AMD", "AMD", "AMD", "b"), 9)
    assert panels({"m": like_a_class})[1].key == (("AMD", 0), ("b", 1))
    one_source = Embedding(points, ("DR",) * 4, ("AMD",) * 4, 9)
    assert [panel.key for panel in panels({"m": one_source})] == [(("Diabetic Retinopathy", 0),)]
    drawn = by_class.figures[0].svg
    assert '<path class="dots c0" d="M4 4h0M236 236h0"/>' in drawn
    assert drawn.index("c9") < drawn.index("c8") < drawn.index("c0")  # colours lie over grey
    made = page(board, Pictures({"one": {"<mgll>": embedding}}))
    assert "t-SNE of 4 of 9 images that are read" in made
    assert made.count("<figure>") == 2
    assert "&lt;mgll&gt;" in made
    assert "<mgll>" not in made
    assert "<a>" not in made


def test_classes_are_named_by_the_table_of_their_manifest():
    """Two manifests of two fields, which share a class code, on one board."""
    chest = read_classes("chest_xray")
    runs = {}
    for name, codes in {"eyes": ("DR", "Drusen"), "chests": ("Effusion", "Mass")}.items():
        found = evaluation("mgll", 0, 3.0, (0, 0))
        reading = replace(found["probe"], classes=codes, left_out={codes[0]: "too few images"})
        runs[name] = {"mgll": [replace(found, readings={"probe": reading})]}
    board = build_board(runs, {"eyes": FUNDUS, "chests": chest})
    assert {row[0].text for row in class_table(board, "chests").rows} == {"Pleural Effusion", "Lung Mass"}
    assert {row[0].text for row in class_table(board, "eyes").rows} == {"Diabetic Retinopathy", "Drusen"}
    frame = class_frame(board)
    assert dict(zip(frame["class"], frame["name"], strict=True))["Mass"] == "Lung Mass"
    assert "Not read: Pleural Effusion: too few images." in markdown(board)
    embedding = Embedding(np.zeros((2, 2), np.float32), ("Effusion", "Mass"), ("a", "a"), 2)
    text = page(board, Pictures({"chests": {"mgll": embedding}}))
    assert "<b>Pleural Effusion</b>: too few images" in text
    assert "<span>Lung Mass</span>" in text


def test_curves_share_a_key_and_an_axis_a_method(board):
    run = Curve((10, 20), {"loss": (4.0, 1.0), "sclip": (float("nan"), 0.5)})
    panel = curve_panel({"<mgll>": [run, run], "random": [Curve((5,), {"loss": (2.0,)})]})
    assert panel.key == (("loss", 0), ("sclip", 1))
    assert [figure.note for figure in panel.figures] == ["20 steps; loss 4 to 1; 4 to 1", "5 steps; loss 2 to 2"]
    assert panel.figures[0].svg.count("<polyline") == 4
    assert '<polyline class="curve c0" points="150.0,4.0 300.0,97.0"/>' in panel.figures[0].svg
    assert '<polyline class="curve c1" points="300.0,112.5"/>' in panel.figures[0].svg
    made = page(board, Pictures(curves={"random": [run]}))
    assert "No curve travels with &lt;mgll&gt;." in made
    assert re.search(r'<a href="#training">Training</a>', made)
