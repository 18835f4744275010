"""The command that probes a tower on a manifest, and towers whose pooled feature is standardised."""

import launches
import numpy as np
import pytest
import torch
from PIL import Image

from mgll.encoders.vision import vision_encoder
from mgll.evaluation.features import features_of
from mgll.evaluation.reading import ClassScore
from mgll.evaluation.towers import tower_file
from mgll.images.preprocessing import Preprocessing
from mgll.linear_probe import _main, macro_auc, probe_tower
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.tower.features import tower_features
from mgll.tower.file import load_tower, save_tower
from mgll.tower.standardise import standardise_tower


@pytest.fixture
def manifest(tmp_path):
    """Forty small pictures a class and split: red ones have glaucoma, the others drusen; one has a class of its own."""
    rng, records = np.random.default_rng(0), []
    for index in range(160):
        split, red = ("train", "train", "val", "test")[index % 4], index // 4 % 2
        pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8) + np.array([120 * red, 0, 0], dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        labels = ("Glaucoma",) if red else ("Drusen",)
        labels += ("MH",) if index == 0 else ()
        records.append(Record(image=f"{index}.png", split=split, group=f"p{index}", texts={}, labels=labels))
    write_manifest(tmp_path / "manifest.jsonl", records)
    return tmp_path / "manifest.jsonl"


@pytest.fixture
def tower(tmp_path):
    torch.manual_seed(0)
    save_tower(tmp_path / "mgll.ckpt", vision_encoder("vit-nano-16", 32), Preprocessing(size=32), "mean")
    return tmp_path / "mgll.ckpt"


def test_the_command_says_what_it_found_and_at_which_strength(tower, manifest, capsys):
    assert _main([str(tower), "--manifest", str(manifest)]) == 0
    said = capsys.readouterr().out
    assert "Glaucoma                 AUC 1.000  (20 of 40)" in said
    assert "macro AUC 1.0000; over classes with 20 images or more 1.0000" in said
    assert "strength C = 0.001, the best of the grid on validation" in said
    assert "\nnot read: MH, of 80 training images 1 image has it, 30 are asked for\n" in said


def test_a_small_set_is_told_how_many_images_there_are_and_read_with_fewer(tower, manifest, capsys):
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[:33]) + "\n")  # 16 training images, 8 of the test split
    assert _main([str(tower), "--manifest", str(manifest)]) == 1
    said = capsys.readouterr().err
    assert (
        "no class has 30 training images and 5 of split 'test', which a probe asks for (--min-train, --min-read)"
        in said
    )
    assert "there are of Drusen 8 and 4, Glaucoma 8 and 4" in said
    assert _main([str(tower), "--manifest", str(manifest), "--min_train", "8", "--min_read", "4"]) == 0
    said = capsys.readouterr().out
    assert "macro AUC 1.0000; no class has 20 images" in said
    few = ["--min-train", "8", "--min-read", "4", "--strengths"]
    assert _main([str(tower), "--manifest", str(manifest), *few, "0.01"]) == 0
    assert "strength C = 0.01, the only one given" in capsys.readouterr().out
    assert _main([str(tower), "--manifest", str(manifest), *few, "0"]) == 1
    assert "--strengths 0: give one or more numbers above 0" in capsys.readouterr().err


def test_means_can_be_kept_to_larger_classes():
    results = [ClassScore("DR", 0.9, 100, 50), ClassScore("MH", 0.5, 5, 145)]
    assert macro_auc(results) == pytest.approx(0.7)
    assert macro_auc(results, 20) == 0.9
    assert np.isnan(macro_auc(results, 101))


def test_features_are_kept_where_a_cache_is_named(tower, manifest, tmp_path):
    first = probe_tower(tower, manifest, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/features-0.f32"))
    assert probe_tower(tower, manifest, cache=tmp_path / "cache") == first == probe_tower(tower, manifest)


@pytest.mark.slow
def test_two_processes_share_the_features_and_the_first_says_the_numbers_of_one(tower, manifest, tmp_path, capsys):
    words = [str(tower), "--manifest", str(manifest), "--cache"]
    assert _main([*words, str(tmp_path / "one")]) == 0
    expected = capsys.readouterr().out
    out, errors = tmp_path / "said.txt", tmp_path / "errors.txt"
    code = "import sys; from mgll.linear_probe import _main; sys.exit(_main(sys.argv[1:]))"
    for process in launches.start_several(2, ["-c", code, *words, str(tmp_path / "two")], out, errors):
        process.join(200)
        assert process.exitcode == 0, errors.read_text()
    assert out.read_text() == expected
    images = [record.image for record in read_manifest(manifest)]
    assert sorted(path.name for path in (tmp_path / "two").glob("*/images-*")) == ["images-0.txt", "images-1.txt"]
    one, two = (features_of(tower_file(tower), images, tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-6)


def test_several_processes_without_a_common_folder_are_refused_in_one_line(tower, manifest, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _main([str(tower), "--manifest", str(manifest)]) == 1
    said = capsys.readouterr().err
    assert (
        said == "error: several processes share their features in a folder that all of them see: name it with --cache\n"
    )


def test_a_manifest_without_labels_or_large_classes_is_refused_in_one_line(tower, manifest, tmp_path, capsys):
    records = list(read_manifest(manifest))
    for kept, labels, message in (
        (records, (), "no image of split 'train' has a label; a probe needs `labels`, not texts alone"),
        (records[:40], None, "no class has 30 training images and 5 of split 'test'"),
        ([r for r in records if r.split != "test"], None, "no image of split 'test' has a label"),
    ):
        changed = [record if labels is None else record.model_copy(update={"labels": labels}) for record in kept]
        write_manifest(tmp_path / "other.jsonl", changed)
        assert _main([str(tower), "--manifest", str(tmp_path / "other.jsonl")]) == 1
        assert message in capsys.readouterr().err


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
