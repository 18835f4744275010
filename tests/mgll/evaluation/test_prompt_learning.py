"""A learned context starts as the words it replaces, changes nothing else of the pair, and learns from a few labels."""

import numpy as np
import pytest
import torch
from small_towers import save_small_tower_with_texts
from tiny_text_models import bert, clip, llama

from mgll.encoders.text import TextEncoder
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.metrics import auc
from mgll.evaluation.prompt_learning import CONTEXT, Prompts, learn_prompts, prompt_scores
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import tower_file
from mgll.evaluation.zero_shot import ENSEMBLE, TextReader, class_points, text_reader
from mgll.tower.text_side import TextFacts, TextSide

NAMES = ["Glaucoma", "Drusen", "Macular Hole"]


@pytest.fixture(scope="module")
def tower_path(tmp_path_factory):
    return save_small_tower_with_texts(tmp_path_factory.mktemp("texts") / "mgll.ckpt")


@pytest.fixture(scope="module")
def reader(tower_path) -> TextReader:
    return text_reader(tower_path)


@pytest.mark.parametrize("make", [bert, llama, clip])
def test_a_context_that_nobody_trained_is_its_words(make, tmp_path):
    encoder = TextEncoder(make(tmp_path / make.__name__))
    facts = TextFacts(
        encoder="x", pooling=encoder.pooling, width=32, feature_width=8, temperature=0.1, bias=0.0, levels=("a",)
    )
    torch.manual_seed(0)
    reader = TextReader(TextSide(facts, torch.randn(8, 16), torch.randn(8, 32)), encoder)
    prompts = Prompts(reader, NAMES)
    expected = reader.points([f"{CONTEXT} {name}" for name in NAMES])
    np.testing.assert_allclose(prompts().detach().numpy(), expected, atol=1e-5)
    with torch.no_grad():
        prompts.context.add_(torch.randn_like(prompts.context))
    assert not np.allclose(prompts().detach().numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(reader.points([f"{CONTEXT} {name}" for name in NAMES]), expected, atol=1e-6)


def planted(reader, seed, images):
    """Features whose points lie near one of three directions; the classes' texts know nothing of it."""
    rng, width = np.random.default_rng(seed), reader.side.image_projection.shape[1]
    kinds = rng.integers(0, 3, images)
    directions = np.random.default_rng(9).normal(size=(3, width))
    return (directions[kinds] + rng.normal(size=(images, width))).astype(np.float32), np.eye(3, dtype=bool)[kinds]


@pytest.mark.slow
def test_a_few_labels_teach_the_context_and_knowledge_holds_it_back(reader):
    classes = ("Glaucoma", "Drusen", "MH")
    (train, t), (chooses, c), (read, r) = (planted(reader, seed, 60) for seed in range(3))
    before = {name: value.clone() for name, value in reader.encoder.state_dict().items()}
    written = class_points(reader, classes)[ENSEMBLE]

    def macro(scores):
        return np.mean([auc(r[:, k], scores[:, k]) for k in range(3)])

    start = Prompts(reader, NAMES)
    chosen = {}
    for method in ("CoOp", "KgCoOp"):
        prompts, said = learn_prompts(method, reader, classes, train, t, chooses, c)
        chosen[method] = prompts
        assert "steps chosen on validation" in said
    gained = macro(prompt_scores(chosen["CoOp"], reader, read)) - macro(prompt_scores(start, reader, read))
    assert gained > 0.02
    away = {name: float(np.square(own().detach().numpy() - written).sum(axis=1).mean()) for name, own in chosen.items()}
    assert away["KgCoOp"] < away["CoOp"]
    assert all(torch.equal(before[name], value) for name, value in reader.encoder.state_dict().items())
    with pytest.raises(ValueError, match="no training image has one of the classes"):
        learn_prompts("CoOp", reader, classes, train, np.zeros_like(t), chooses, c)


@pytest.mark.slow
def test_they_are_readings_with_the_labels_of_the_few_label_probes(tower_path, records, tmp_path):
    settings = EvaluationSettings(
        cache=str(tmp_path), min_train=20, shares=(0.1, 0.5), draws=1, leave_source_out=False, prompt_learning=True
    )
    found = evaluate(tower_file(tower_path), records, settings)
    names = {reading.name for reading in found.named("few labels")}
    assert names == {
        "few labels 10 %, draw 0",
        "few labels 50 %, draw 0",
        "few labels 10 %, CoOp, draw 0",
        "few labels 10 %, KgCoOp, draw 0",
    }
    reading = found["few labels 10 %, CoOp, draw 0"]
    assert reading.images == found["probe"].images
    assert np.isfinite(reading.scores).all()
    assert "steps chosen on validation" in reading.notes[-1]
