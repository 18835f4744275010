"""The objective meets the worked example, equals its naive form in value and gradient, and contains CLIP as a setting."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

import mgll.objective
from mgll.naive_objective import Occurrences, naive_objective, naive_pointwise, naive_smooth_kl, naive_soft_clip
from mgll.objective import OBJECTIVES, Level, Objective, ObjectiveSettings, pointwise, soft_clip

EXAMPLE = json.loads(
    """{"tau": 0.07, "images": [[1.0, 0.2, 0.0], [0.1, 1.0, 0.3], [0.0, 0.4, 1.0], [0.9, 0.1, 0.1]],
    "texts": {"normal": [0.1, 0.9, 0.2], "abnormal": [0.7, 0.1, 0.6], "diabetic retinopathy": [1.0, 0.0, 0.1],
      "glaucoma": [0.0, 0.2, 1.0], "healthy retina": [0.2, 1.0, 0.1], "microaneurysms and exudates": [0.9, 0.1, 0.0],
      "enlarged optic cup": [0.1, 0.0, 0.9]},
    "samples": [
      {"disease": ["abnormal", "diabetic retinopathy"], "explanation": ["microaneurysms and exudates"]},
      {"disease": ["normal"], "explanation": ["healthy retina"]},
      {"disease": ["abnormal", "diabetic retinopathy", "glaucoma"],
       "explanation": ["microaneurysms and exudates", "enlarged optic cup"]},
      {"disease": ["abnormal", "diabetic retinopathy"]}],
    "per_level": {
      "disease": {"sclip": 1.2498077960575198, "sum": 11.814309195017707, "mean": 1.4767886493772133},
      "explanation": {"sclip": 1.8138262885471055, "sum": 8.208346248669832, "mean": 2.052086562167458}},
    "sclip": 1.5318170423023125, "sum": 10.01132772184377, "mean": 1.7644376057723357,
    "smooth_kl": 0.009221868170377382, "total_sum": 10.786458111165302, "total_mean": 2.5395679950938694}"""
)
MISSING_LEVEL = [
    {"disease": ["a", "b"], "explanation": ["x"]},
    {"disease": ["a"], "explanation": ["y", "x"]},
    {"disease": ["c"]},
    {"disease": ["a", "b"], "explanation": ["x"]},
    {"explanation": ["z"]},
    {"disease": ["b", "c", "a"], "explanation": ["z", "y"]},
    {},
]


def batch(samples, features, dtype=torch.float64):
    """Level batches on unique texts, the same texts by occurrence, and the leaf features both are made of."""
    leaves = {name: torch.tensor(v, dtype=dtype, requires_grad=True) for name, v in features.items()}
    unit = {name: F.normalize(v, dim=0) for name, v in leaves.items()}
    levels, occurrences = {}, {}
    for level in sorted({level for sample in samples for level in sample}):
        own = [sample.get(level, []) for sample in samples]
        unique = sorted({text for texts in own for text in texts})
        incidence = torch.tensor([[texts.count(text) for text in unique] for texts in own], dtype=dtype)
        levels[level] = Level(torch.stack([unit[text] for text in unique]), incidence)
        occurrences[level] = Occurrences(
            torch.stack([unit[text] for texts in own for text in texts]),
            torch.tensor([image for image, texts in enumerate(own) for _ in texts]),
            torch.tensor([unique.index(text) for texts in own for text in texts]),
        )
    return levels, occurrences, leaves


def random_batch(samples, seed=0, width=5):
    generator = torch.Generator().manual_seed(seed)
    texts = sorted({t for sample in samples for own in sample.values() for t in own})
    features = {t: torch.randn(width, generator=generator).tolist() for t in texts}
    images = torch.randn(len(samples), width, generator=generator, dtype=torch.float64).requires_grad_()
    return images, *batch(samples, features)


def test_the_worked_example_is_met():
    images = F.normalize(torch.tensor(EXAMPLE["images"], dtype=torch.float64), dim=1)
    levels, *_ = batch(EXAMPLE["samples"], EXAMPLE["texts"])
    for name, level in levels.items():
        logits = images @ level.texts.T / EXAMPLE["tau"]
        expected = EXAMPLE["per_level"][name]
        assert soft_clip(logits, level.incidence).item() == pytest.approx(expected["sclip"], abs=1e-6)
        for reduction in ("sum", "mean"):
            value = pointwise(logits, level.incidence, reduction).item()
            assert value == pytest.approx(expected[reduction], abs=1e-6)
    for reduction in ("sum", "mean"):
        settings = replace(OBJECTIVES["mgll-paper"], pointwise_reduction=reduction)
        terms = Objective(settings).double()(images, levels)
        assert terms["sclip"].item() == pytest.approx(EXAMPLE["sclip"], abs=1e-6)
        assert terms["pointwise"].item() == pytest.approx(EXAMPLE[reduction], abs=1e-6)
        assert terms["smooth_kl"].item() == pytest.approx(EXAMPLE["smooth_kl"], abs=1e-6)
        assert terms["loss"].item() == pytest.approx(EXAMPLE[f"total_{reduction}"], abs=1e-6)


def test_the_worked_example_is_met_by_the_naive_form():
    images = F.normalize(torch.tensor(EXAMPLE["images"], dtype=torch.float64), dim=1)
    _, occurrences, _ = batch(EXAMPLE["samples"], EXAMPLE["texts"])
    logits = {name: images @ level.texts.T / EXAMPLE["tau"] for name, level in occurrences.items()}
    for name, expected in EXAMPLE["per_level"].items():
        assert naive_soft_clip(logits[name], occurrences[name]).item() == pytest.approx(expected["sclip"], abs=1e-6)
        assert naive_pointwise(logits[name], occurrences[name]).item() == pytest.approx(expected["sum"], abs=1e-6)
    kl = naive_smooth_kl(list(logits.values()), list(occurrences.values())).item()
    assert kl == pytest.approx(EXAMPLE["smooth_kl"], abs=1e-6)
    for reduction in ("sum", "mean"):
        objective = Objective(replace(OBJECTIVES["mgll-paper"], pointwise_reduction=reduction)).double()
        total = naive_objective(images, occurrences, objective).item()
        assert total == pytest.approx(EXAMPLE[f"total_{reduction}"], abs=1e-6)


@pytest.mark.parametrize("samples", [MISSING_LEVEL, EXAMPLE["samples"]], ids=["missing-levels", "example"])
@pytest.mark.parametrize("term", ["sclip", "pointwise", "smooth_kl"])
def test_unique_texts_give_the_value_and_gradient_of_all_occurrences(samples, term):
    raw, levels, occurrences, leaves = random_batch(samples)
    weights = {"sclip": 0.0, "pointwise": 0.0, "smooth_kl": 0.0, term: 1.0}
    settings = ObjectiveSettings(
        **weights, pointwise_reduction="sum", pointwise_bias=-1.5, temperature=1 / 9, learn_temperature=True
    )
    objective, images = Objective(settings).double(), F.normalize(raw, dim=1)
    fast, naive = objective(images, levels)["loss"], naive_objective(images, occurrences, objective)
    assert fast.item() == pytest.approx(naive.item(), rel=1e-9)
    assert fast.item() > 0
    learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    wanted = [raw, *learned, *leaves.values()]
    gradients = [torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) for loss in (fast, naive)]
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is None or ours is None:
            assert all(gradient is None or gradient.abs().max() < 1e-12 for gradient in (ours, theirs))
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_a_text_repeated_by_one_image_is_two_occurrences():
    raw, levels, occurrences, _ = random_batch([{"disease": ["a", "a", "b"]}, {"disease": ["b"], "explanation": ["x"]}])
    images, scale = F.normalize(raw, dim=1), torch.tensor(7.0, dtype=torch.float64)
    fast = soft_clip(scale * images @ levels["disease"].texts.T, levels["disease"].incidence)
    every = occurrences["disease"]
    assert fast.item() == pytest.approx(naive_soft_clip(scale * images @ every.texts.T, every).item())


def test_clip_is_open_clips_loss_on_captions():
    samples = [{"disease": [caption]} for caption in ("dr", "glaucoma", "dr", "drusen, amd")]  # two equal captions
    raw, levels, occurrences, leaves = random_batch(samples)
    images = F.normalize(raw, dim=1)
    objective = Objective("clip").double()
    ours = objective(images, {"caption": levels["disease"]})["loss"]
    theirs = ClipLoss()(images, occurrences["disease"].texts, objective.logit_scale())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    wanted = [raw, *leaves.values()]
    for a, b in zip(
        torch.autograd.grad(ours, wanted, retain_graph=True), torch.autograd.grad(theirs, wanted), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_pooled_levels_are_one_level_of_all_texts():
    raw, levels, occurrences, _ = random_batch(MISSING_LEVEL)
    images, (disease, explanation) = F.normalize(raw, dim=1), occurrences.values()
    together = Occurrences(
        torch.cat([disease.texts, explanation.texts]),
        torch.cat([disease.owners, explanation.owners]),
        torch.cat([disease.names, explanation.names + 100]),
    )
    loss = Objective(ObjectiveSettings(1, 0, 0, levels="pooled")).double()(images, levels)["loss"]
    assert loss.item() == pytest.approx(naive_soft_clip(images @ together.texts.T / 0.07, together).item())


def plain_supcon(images, texts, tau):
    """Khosla et al., Eq. 2, loop by loop."""
    total, anchors = 0.0, 0
    present = [i for i in range(len(images)) if texts[i]]
    for i in present:
        others = [a for a in present if a != i]
        positives = [p for p in others if set(texts[i]) & set(texts[p])]
        if positives:
            anchors += 1
            below = sum(torch.exp(images[i] @ images[a] / tau) for a in others)
            total -= sum(torch.log(torch.exp(images[i] @ images[p] / tau) / below) for p in positives) / len(positives)
    return total / anchors


def test_supcon_is_the_plain_sum_over_images_that_share_a_text():
    raw, levels, _, _ = random_batch([*MISSING_LEVEL, {"disease": ["alone"]}])
    images = F.normalize(raw, dim=1)
    settings = replace(OBJECTIVES["supcon"], levels="separate")
    ours = Objective(settings).double()(images, levels)["loss"]
    texts = {name: [sample.get(name, []) for sample in [*MISSING_LEVEL, {}]] for name in levels}
    texts["disease"][-1] = ["alone"]  # nobody's positive, everybody's negative
    theirs = sum(plain_supcon(images, own, settings.temperature) for own in texts.values()) / 2
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-7)
    torch.testing.assert_close(*(torch.autograd.grad(loss, raw, retain_graph=True)[0] for loss in (ours, theirs)))
    lonely = {"caption": Level(levels["disease"].texts, torch.eye(8, 4, dtype=torch.float64))}
    terms = Objective("supcon").double()(images, lonely)
    assert terms["supcon"].item() == 0
    assert torch.isfinite(torch.autograd.grad(terms["loss"], raw)[0]).all()


@pytest.mark.parametrize("name", ["mgll", "supcon"])
def test_blocks_of_rows_give_the_value_and_gradient_of_the_whole(name, monkeypatch):
    raw, levels, _, leaves = random_batch(MISSING_LEVEL)
    objective, found = Objective(replace(OBJECTIVES[name], levels="separate")).double(), []
    for block in (mgll.objective.BLOCK, 1, 20):
        monkeypatch.setattr(mgll.objective, "BLOCK", block)
        loss = objective(F.normalize(raw, dim=1), levels)["loss"]
        found.append((loss, *torch.autograd.grad(loss, [raw, *leaves.values()], retain_graph=True)))
    for blocks in found[1:]:
        torch.testing.assert_close(blocks, found[0], rtol=1e-9, atol=1e-12)


def test_learned_parameters_are_those_that_the_settings_name():
    for settings in OBJECTIVES.values():
        objective = Objective(settings)
        assert objective.log_scale.requires_grad == settings.learn_temperature
        assert objective.bias.requires_grad == (settings.learn_bias and settings.pointwise > 0)
    assert Objective(replace(OBJECTIVES["siglip"], temperature=1e-4)).logit_scale().item() == 100.0


def test_gradient_descent_separates_images_by_their_texts():
    raw, levels, *_ = random_batch([{"disease": [d], "explanation": [e]} for d, e in ("ax", "by", "cz")] * 2)
    weights = torch.nn.Parameter(raw.detach().clone())
    objective, losses = Objective("mgll").double(), []
    detached = {name: Level(level.texts.detach(), level.incidence) for name, level in levels.items()}
    optimiser = torch.optim.Adam([weights], lr=0.05)
    for _ in range(60):
        loss = objective(F.normalize(weights, dim=1), detached)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert sum(b < a for a, b in pairwise(losses)) > 50


def test_batches_without_texts_or_with_one_complete_image_give_zero_and_no_nan():
    raw, levels, *_ = random_batch([{"disease": ["a"]}, {"disease": ["b"], "explanation": ["x"]}])
    images = F.normalize(raw, dim=1)
    terms = Objective("mgll").double()(images, levels)
    assert terms["smooth_kl"].item() == 0
    empty = {"disease": Level(levels["disease"].texts, torch.zeros(2, 2, dtype=torch.float64))}
    terms = Objective(ObjectiveSettings(1, 1, 1)).double()(images, empty)
    assert terms["loss"].item() == 0
    assert torch.isfinite(torch.autograd.grad(terms["loss"], raw)[0]).all()
