"""Zero-shot and retrieval take nothing but the tower file and its text encoder, which is known by its hash."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_text_models import bert
from transformers import AutoModel

from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.evaluation.evaluation import evaluate
from mgll.evaluation.settings import EvaluationSettings
from mgll.evaluation.towers import tower_file
from mgll.evaluation.zero_shot import ENSEMBLE, class_prompts, retrieval, text_reader, zero_shot_scores
from mgll.images.preprocessing import Preprocessing
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.settings import PretrainSettings
from mgll.tower.features import tower_features
from mgll.tower.file import load_text_side, save_tower
from mgll.training.pretraining import pretrain
from mgll.vocabulary.label_texts import describe_labels

COLOURS = {"Glaucoma": (130, 0, 0), "Drusen": (0, 130, 0), "MH": (0, 0, 130)}
CLASSES = tuple(sorted(COLOURS))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Ninety pictures whose colour is that of their class; a third each to train, choose and read."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, records = np.random.default_rng(0), []
    for index in range(90):
        label = CLASSES[index // 3 % 3]
        pixels = rng.integers(0, 110, (32, 32, 3)) + np.array(COLOURS[label])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        split = ("train", "val", "test")[index % 3]
        texts = describe_labels([label])
        records.append(
            Record(image=f"{index}.png", split=split, group=f"p{index}", texts=texts, labels=(label,), source="one")
        )
    write_manifest(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def settings(manifest) -> PretrainSettings:
    return PretrainSettings(
        manifest=str(manifest),
        out=str(manifest.parent / "run"),
        encoder="vit-nano-16",
        image_size=32,
        feature_width=16,
        epochs=30,
        batch_size=30,
        crop_scale=1.0,
        text_encoder=bert(manifest.parent / "bert"),
        remember_images=False,
    )


@pytest.fixture(scope="module")
def tower(settings) -> Path:
    return pretrain(settings)


def read_part(manifest, tower):
    records = [record for record in read_manifest(manifest) if record.split == "test"]
    return records, tower_features(tower, [record.image for record in records])


def test_a_pretrained_tower_reads_classes_by_their_names(manifest, tower, tmp_path):
    settings = EvaluationSettings(cache=str(tmp_path), min_train=5, shares=(), leave_source_out=False)
    found = evaluate(tower_file(tower), read_manifest(manifest), settings)
    readings = found.named("zero-shot")
    assert [reading.name for reading in readings] == [
        f"zero-shot, {level}" for level in ("disease", "explanation", "caption", ENSEMBLE)
    ]
    for reading in readings:
        assert reading.classes == CLASSES
        assert reading.summary().auc > 0.9, reading.name
        assert reading.strength is None
    assert found.retrieval.keys() == {"disease", "explanation", "caption"}
    assert found.retrieval["caption"].image_to_text[1] > 0.8
    assert found.retrieval["caption"].texts == 3


def test_scores_are_the_log_odds_of_the_softmax_over_classes(manifest, tower, settings):
    _, features = read_part(manifest, tower)
    found = zero_shot_scores(text_reader(tower), features, CLASSES)["explanation"]
    side, encoder = load_text_side(tower), TextEncoder(settings.text_encoder)
    texts = encoder.features([describe_labels([code])["explanation"][0] for code in CLASSES])
    images = F.normalize(torch.from_numpy(features) @ side.image_projection.T, dim=1)
    chance = (images @ F.normalize(texts @ side.text_projection.T, dim=1).T / side.facts.temperature).softmax(1)
    torch.testing.assert_close(torch.from_numpy(found).sigmoid().float(), chance, atol=1e-5, rtol=0)


def test_a_single_class_is_read_though_it_has_no_rest(manifest, tower):
    _, features = read_part(manifest, tower)
    reader = text_reader(tower)
    alone, both = (zero_shot_scores(reader, features, codes)["disease"] for codes in (CLASSES[:1], CLASSES[:2]))
    others = zero_shot_scores(reader, features, CLASSES[1:2])["disease"]
    np.testing.assert_allclose(alone[:, 0] - others[:, 0], both[:, 0], atol=1e-4)


def test_prompts_have_granularities_and_grades_speak_for_what_they_grade():
    prompts = class_prompts("Drusen")
    assert prompts["disease"] == ("Drusen",)
    assert prompts["caption"] == (", ".join(("abnormal", "Drusen", *prompts["explanation"])),)
    assert "Mild Non-Proliferative Diabetic Retinopathy" in class_prompts("DR")["disease"]
    assert class_prompts("Mild NPDR", grades="keep")["disease"][0] == "Mild Non-Proliferative Diabetic Retinopathy"
    assert class_prompts("no name of the table") == {
        "disease": ("no name of the table",),
        "caption": ("no name of the table",),
    }


def test_retrieval_is_its_definition(manifest, tower):
    records, features = read_part(manifest, tower)
    rng, reader = np.random.default_rng(0), text_reader(tower)
    words = [[f"word {number}" for number in rng.choice(12, rng.integers(0, 4), replace=False)] for _ in records]
    found = retrieval(reader, features, words, "words")
    unique = sorted({word for own in words for word in own})
    kept = [row for row, own in enumerate(words) if own]
    likeness = reader.image_points(features) @ reader.points(unique).T
    order = np.argsort(-likeness, axis=1)
    for k in (1, 5, 10):
        hits = [bool({unique[column] for column in order[row, :k]} & set(words[row])) for row in kept]
        assert found.image_to_text[k] == pytest.approx(np.mean(hits))
    by_text = np.argsort(-likeness[kept], axis=0)
    hits = [any(word in words[kept[row]] for row in by_text[:5, c]) for c, word in enumerate(unique)]
    assert found.text_to_image[5] == pytest.approx(np.mean(hits))
    assert (found.images, found.texts) == (len(kept), len(unique))
    assert retrieval(reader, features, [["same"]] * len(records), "one") is None


def test_retrieval_equals_torchmetrics(manifest, tower):
    tm = pytest.importorskip("torchmetrics").functional.retrieval
    records, features = read_part(manifest, tower)
    rng, reader = np.random.default_rng(1), text_reader(tower)
    words = [[f"word {number}" for number in rng.choice(20, rng.integers(1, 4), replace=False)] for _ in records]
    found = retrieval(reader, features, words, "words")
    unique = list(dict.fromkeys(word for own in words for word in own))
    likeness = torch.from_numpy(reader.image_points(features) @ reader.points(unique).T)
    has = torch.tensor([[word in own for word in unique] for own in words])
    for shares, near, own in ((found.image_to_text, likeness, has), (found.text_to_image, likeness.T, has.T)):
        for k, share in shares.items():
            expected = [float(tm.retrieval_hit_rate(n, o, top_k=k)) for n, o in zip(near, own, strict=True)]
            assert share == pytest.approx(np.mean(expected), rel=0, abs=1e-9)


def test_the_weights_of_a_trained_text_encoder_come_out_of_the_tower(settings, tmp_path):
    tower = pretrain(replace(settings, out=str(tmp_path), text_training=1, epochs=2))
    trained, before = text_reader(tower), TextEncoder(settings.text_encoder)
    own = dict(trained.encoder.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in load_text_side(tower).encoder.items())
    assert not torch.equal(trained.encoder.features(["glaucoma"]), before.features(["glaucoma"]))


def test_a_text_encoder_that_moved_is_found_and_another_is_refused(settings, tower, tmp_path):
    moved = shutil.copytree(settings.text_encoder, tmp_path / "moved")
    expected = text_reader(tower).points(["glaucoma"])
    np.testing.assert_array_equal(text_reader(tower, str(moved)).points(["glaucoma"]), expected)
    with pytest.raises(FileNotFoundError, match=r"is not in .*nowhere; say where it is with --text-encoder"):
        text_reader(tower, str(tmp_path / "nowhere"))
    AutoModel.from_pretrained(bert(tmp_path / "other", layers=2)).save_pretrained(moved)
    with pytest.raises(ValueError, match="holds another text encoder than the one"):
        text_reader(tower, str(moved))


def test_a_tower_without_a_text_side_says_so(tmp_path):
    save_tower(tmp_path / "mgll.ckpt", vision_encoder("vit-nano-16", 32), Preprocessing(size=32))
    with pytest.raises(ValueError, match="brings no text side"):
        text_reader(tmp_path / "mgll.ckpt")
