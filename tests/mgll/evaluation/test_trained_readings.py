"""Attentive probe and fine-tuning: what they start from, what they find that a linear probe can't, and what ends them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_towers import save_small_tower

from mgll.evaluation.attentive import AttentiveProbe, fit_attentive
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.features import features_of, grids_of
from mgll.evaluation.fine_tuning import TowerClassifier, fine_tuned_scores, learning_rates
from mgll.evaluation.metrics import auc
from mgll.evaluation.probe import fit_probe
from mgll.evaluation.saving import load_evaluation, save_evaluation
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.stopping import Balance, Kept, train_until_best
from mgll.evaluation.towers import tower_file
from mgll.tower.model import grid_features


@pytest.fixture(scope="module")
def tower(tower_path):
    return tower_file(tower_path)


def test_grids_are_cached_once_in_half_precision_and_their_mean_is_the_pooled_feature(tower, records, tmp_path):
    images = [record.image for record in records][:10]
    grids = grids_of(tower, images, tmp_path, batch_size=4)
    assert (grids[0].dtype, grids[0].shape) == (np.float16, (4, 64))
    pooled = features_of(tower, images, tmp_path)
    np.testing.assert_allclose(np.stack(grids).astype(np.float32).mean(axis=1), pooled, atol=2e-3)

    def closed():
        raise AssertionError("grids were computed again")

    again = grids_of(replace(tower, load=closed), images[::-1], tmp_path)
    np.testing.assert_array_equal(np.stack(again), np.stack(grids)[::-1])


def planted(rng, images, places=16, width=8):
    """Grids of noise; in half of them one place, anywhere, points along the first channel, and another channel is pushed back."""
    grids, has = rng.normal(size=(images, places, width)).astype(np.float16), np.arange(images) % 2 == 0
    for number in np.flatnonzero(has):
        grids[number, rng.integers(places), 0] += 6
        grids[number, :, 0] -= 6 / places  # their mean says nothing
    return [*grids], has[:, None]


@pytest.mark.slow
def test_an_attentive_probe_finds_what_the_mean_does_not_hold():
    rng = np.random.default_rng(0)
    (train, t), (chooses, c), (read, r) = (planted(rng, count) for count in (400, 200, 200))
    linear = fit_probe(np.stack(train).mean(1).astype(np.float32), t, np.stack(chooses).mean(1).astype(np.float32), c)
    assert auc(r[:, 0], linear.scores(np.stack(read).mean(1))[:, 0]) < 0.65
    probe, said = fit_attentive(train, t, chooses, c, seed=0, learning_rates=(1e-2,))
    assert auc(r[:, 0], probe.scores(read)[:, 0]) > 0.9
    assert "chosen on validation" in said
    few = [fit_attentive(train[:40], t[:40], chooses[:40], c[:40], 0, (1e-2,))[0].scores(read[:9]) for _ in range(2)]
    np.testing.assert_array_equal(*few)


def test_an_attentive_probe_starts_at_the_mean_and_its_attention_sums_to_one():
    probe = AttentiveProbe(torch.zeros(128), torch.ones(128), 3)
    grid = torch.randn(2, 9, 128)
    torch.testing.assert_close(probe.attention(grid), torch.full((2, 9, 2), 1 / 9))
    torch.nn.init.normal_(probe.query)
    torch.testing.assert_close(probe.attention(grid).sum(dim=1), torch.ones(2, 2))


def test_the_loss_weighs_both_kinds_alike_and_training_ends_at_the_best_epoch():
    truth = np.zeros((10, 2), dtype=bool)
    truth[:2, 0] = True  # the second class has none
    balance = Balance.of(truth, torch.device("cpu"))
    assert balance.odds.tolist() == [4.0, 1.0]
    logits = torch.full((10, 2), -np.log(4.0)).requires_grad_()
    (slope,) = torch.autograd.grad(balance.loss(logits, torch.from_numpy(truth).float()), logits)
    assert slope[:, 0].sum().abs() < 1e-6  # at the class's own frequency nothing pulls
    module, judged = torch.nn.Linear(1, 1), iter([0.5, 0.7, 0.6, 0.9, 0.8, 0.8, 0.8, 1.0])

    def epoch(number):
        with torch.no_grad():
            module.weight.fill_(number)

    assert train_until_best(module, epoch, lambda: next(judged), 50, 3, "test") == (0.9, 3)
    assert module.weight.item() == 3


@pytest.fixture(scope="module")
def pictures(tower, records, tmp_path_factory):
    kept = [record for record in records if record.labels]
    parts = [[r for r in kept if r.split == split] for split in ("train", "val", "test")]
    truths = [np.array([["Drusen" in r.labels] for r in part]) for part in parts]
    images = [[r.image for r in part] for part in parts]
    cache = tmp_path_factory.mktemp("cache")
    features = [features_of(tower, own, cache) for own in images]
    return images, truths, features


@pytest.mark.slow
def test_fine_tuning_starts_as_the_probe_and_trains_what_it_is_told(tower, pictures):
    images, truths, features = pictures
    probe = fit_probe(features[0], truths[0], features[1], truths[1], [0.001])
    model = TowerClassifier(tower.load(), tower.pooling, tower.preprocessing, probe)
    np.testing.assert_allclose(model.scores(images[2], torch.device("cpu")), probe.scores(features[2]), atol=1e-3)
    unfitted = replace(probe, weights=np.zeros_like(probe.weights), offsets=np.zeros_like(probe.offsets))
    for blocks in (1, "full"):
        scores, said = fine_tuned_scores(tower, images, truths[:2], unfitted, blocks, 0, 4)
        assert auc(truths[2][:, 0], scores[:, 0]) > 0.8
        assert "epochs chosen on validation" in said
    with pytest.raises(ValueError, match="fine_tune 99: the encoder has"):
        fine_tuned_scores(tower, images, truths[:2], probe, 99, 0, 1)


def test_learning_rates_fall_from_block_to_block(tower):
    model = tower.load()
    rates = learning_rates(model, 1.0, 0.5)
    blocks = len(model.encoder.layers) if hasattr(model, "encoder") else len(model.vision_model.encoder.layers)
    by_block = {b: {r for n, r in rates.items() if f"layers.{b}." in n} for b in range(blocks)}
    assert [by_block[b] for b in range(blocks)] == [{0.5 ** (blocks - 1 - b)} for b in range(blocks)]
    assert rates[next(n for n in rates if "patch_embedding" in n)] == 0.5**blocks
    assert {rate for name, rate in rates.items() if "post_layernorm" in name} <= {1.0}


@pytest.mark.slow
def test_they_are_readings_beside_the_probe_saved_and_compared_alike(tower, records, tmp_path):
    settings = EvaluationSettings(
        cache=str(tmp_path / "cache"), min_train=20, shares=(), attentive=True, fine_tune=(1, 99), fine_tune_epochs=1
    )
    found = evaluate(tower, records, settings)
    probe = found["probe"]
    for name in ("attentive probe", "fine-tuned, last block"):
        reading = found[name]
        assert (reading.images, reading.classes) == (probe.images, probe.classes)
        assert reading.summary().auc > 0.5
        assert reading.notes
    assert any("fine-tuned, last 99 blocks: fine_tune 99: the encoder has" in sentence for sentence in found.skipped)
    save_evaluation(tmp_path / "one.npz", found)
    again = load_evaluation(tmp_path / "one.npz")
    np.testing.assert_array_equal(again["attentive probe"].scores, found["attentive probe"].scores)


def test_a_grid_that_half_precision_does_not_hold_is_refused(tmp_path, records):
    tower = tower_file(save_small_tower(tmp_path / "a.ckpt"))
    load = tower.load

    def loud():
        model = load()
        with torch.no_grad():
            model.post_layernorm.weight.fill_(1e6) if hasattr(model, "post_layernorm") else None
        return model

    assert grid_features(loud(), torch.randn(1, 3, 32, 32)).abs().max() > 1e5
    with pytest.raises(ValueError, match="beyond what float16 holds"):
        grids_of(replace(tower, load=loud), [records[0].image], tmp_path / "cache")


def test_a_training_that_was_killed_at_any_epoch_ends_in_the_same_weights(tmp_path):
    values = torch.linspace(-1, 1, 8)[:, None]

    def train(folder, killed_after=None):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)

        def epoch(number):
            if number == killed_after:
                raise KeyboardInterrupt
            module.train()
            optimizer.zero_grad()
            (
                module(values + torch.randn(8, 1, generator=torch.Generator().manual_seed(number))) - 1
            ).square().mean().backward()
            optimizer.step()

        judged = [0.5, 0.1, 0.7, 0.2, 0.9, 0.3, 0.4, 0.5]  # best at the start, after 2 and after 4; ends after 7
        newest = [int(path.name[-8:]) for path in folder.glob("step-*")]
        left = iter(judged[max(newest, default=-1) + 1 :])
        found = train_until_best(module, epoch, lambda: next(left), 20, 3, "test", Kept(folder, optimizer))
        return found, module.state_dict()

    found, weights = train(tmp_path / "undisturbed")
    assert found == (0.9, 4)
    for number in range(1, 8):
        folder = tmp_path / f"killed-{number}"
        with pytest.raises(KeyboardInterrupt):
            train(folder, number)
        assert len(list(folder.glob("step-*"))) <= 4
        again, resumed = train(folder)
        assert again == found
        assert all(torch.equal(resumed[name], value) for name, value in weights.items())
    again, resumed = train(folder)  # one that had ended is not trained any further
    assert again == found
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())
