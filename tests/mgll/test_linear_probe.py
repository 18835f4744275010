"""The linear probe finds what is in the features and nothing else, and says what it left out by size."""

import numpy as np
import pytest
import torch
from PIL import Image

from mgll.encoders.vision import vision_encoder
from mgll.images.preprocessing import Preprocessing
from mgll.linear_probe import macro_auc, probe
from mgll.tower.features import tower_features
from mgll.tower.file import load_tower, save_tower
from mgll.tower.standardise import standardise_tower


def planted(seed, count=300):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 12))
    labels = [{"DR"} if row[0] > 0.5 else {"Health"} for row in features]
    for index in random.choice(count, 60, replace=False):
        labels[index] = labels[index] | {"Drusen"}  # unrelated to the features
    return features, labels


def test_a_planted_class_is_found_and_a_random_one_is_not():
    train, test = planted(0), planted(1)
    results = {result.label: result for result in probe(*train, *test)}
    assert results["DR"].auc > 0.97
    assert 0.35 < results["Drusen"].auc < 0.65
    assert results["DR"].positives == sum("DR" in labels for labels in test[1])
    assert results["DR"].positives + results["DR"].negatives == 300


def test_small_classes_are_left_out_and_can_be_kept_from_the_mean():
    train, test = planted(0), planted(1)
    train[1][0], test[1][0] = {"MH"}, {"MH"}
    results = probe(*train, *test)
    assert "MH" not in {result.label for result in results}
    assert macro_auc(results, min_positives=100) == pytest.approx(
        np.mean([result.auc for result in results if result.positives >= 100])
    )


def test_a_standardised_tower_differs_only_in_the_scale_of_its_pooled_feature(tmp_path):
    torch.manual_seed(0)
    images = []
    for index in range(12):
        images.append(str(tmp_path / f"{index}.png"))
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images[-1])
    for pooling in ("mean", "cls"):
        tower, out = tmp_path / f"{pooling}.ckpt", tmp_path / f"{pooling}-standardised.ckpt"
        save_tower(tower, vision_encoder("vit-nano-16", 32), Preprocessing(size=32), pooling)
        standardise_tower(tower, images, out)
        before, after = tower_features(tower, images), tower_features(out, images)
        assert np.abs(after.mean(0)).max() < 1e-3
        assert after.std(0, ddof=1) == pytest.approx(1, abs=1e-3)
        expected = (before - before.mean(0)) / before.std(0, ddof=1)
        np.testing.assert_allclose(after, expected, atol=2e-3)
        old, new = load_tower(tower)[0].state_dict(), load_tower(out)[0].state_dict()
        changed = {name for name in old if not torch.equal(old[name], new[name])}
        assert changed == {"post_layernorm.weight", "post_layernorm.bias"}


def test_a_tower_is_standardised_where_its_feature_comes_out_of_a_norm(tmp_path):
    torch.manual_seed(0)
    images = []
    for index in range(12):
        images.append(str(tmp_path / f"{index}.png"))
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images[-1])
    vit = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    convnext = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 20], "ls_init_value": None}
    tower, out = tmp_path / "mgll.ckpt", tmp_path / "standardised.ckpt"
    for encoder, options, size, pooling in (
        ("convnext-base", convnext, 64, "head"),
        ("convnext-base", convnext, 64, "mean"),
        ("timm:vit_base_patch16_siglip_224", vit, 32, "mean"),
    ):
        save_tower(tower, vision_encoder(encoder, size, **options), Preprocessing(size=size), pooling)
        standardise_tower(tower, images, out)
        found = tower_features(out, images)
        assert np.abs(found.mean(0)).max() < 1e-2
        assert found.std(0, ddof=1) == pytest.approx(1, abs=1e-2)
    save_tower(tower, vision_encoder(encoder, size, **options), Preprocessing(size=size), "head")
    out.unlink()
    with pytest.raises(ValueError, match="does not come straight out of a norm"):
        standardise_tower(tower, images, out)
    assert not out.exists()
