"""The objective meets the worked example, equals its naive form in value and gradient, and contains CLIP as a setting."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from mgll.naive_objective import naive_pointwise, naive_smooth_kl, naive_soft_clip
from mgll.objective import OBJECTIVES, Level, Objective, ObjectiveSettings, pointwise, smooth_kl, soft_clip

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
    levels, names = {}, {}
    for level in sorted({level for sample in samples for level in sample}):
        names[level] = [sample.get(level, []) for sample in samples]
        unique = sorted({text for own in names[level] for text in own})
        incidence = torch.tensor([[own.count(text) for text in unique] for own in names[level]], dtype=dtype)
        levels[level] = Level(torch.stack([unit[text] for text in unique]), incidence)
    occurrences = {level: [[unit[t] for t in own] for own in names[level]] for level in names}
    return levels, names, occurrences, leaves


def with_level(names, images, occurrences):
    """The images that have a level, as the naive form wants them."""
    keep = [i for i, own in enumerate(names) if own]
    return [names[i] for i in keep], images[keep], [occurrences[i] for i in keep]


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
    _, names, occurrences, _ = batch(EXAMPLE["samples"], EXAMPLE["texts"])
    scale, zero = torch.tensor(1 / EXAMPLE["tau"], dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for level, expected in EXAMPLE["per_level"].items():
        own, present, texts = with_level(names[level], images, occurrences[level])
        assert naive_soft_clip(present, texts, own, scale).item() == pytest.approx(expected["sclip"], abs=1e-6)
        assert naive_pointwise(present, texts, own, scale, zero).item() == pytest.approx(expected["sum"], abs=1e-6)
    kl = naive_smooth_kl(images, list(occurrences.values()), scale).item()
    assert kl == pytest.approx(EXAMPLE["smooth_kl"], abs=1e-6)


@pytest.mark.parametrize("samples", [MISSING_LEVEL, EXAMPLE["samples"]], ids=["missing-levels", "example"])
@pytest.mark.parametrize("term", ["sclip", "pointwise", "smooth_kl"])
def test_unique_texts_give_the_value_and_gradient_of_all_occurrences(samples, term):
    raw, levels, names, occurrences, leaves = random_batch(samples)
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (9.0, -1.5))
    images = F.normalize(raw, dim=1)
    logits = {name: scale * images @ level.texts.T for name, level in levels.items()}
    if term == "smooth_kl":
        fast = smooth_kl(list(logits.values()), [level.incidence for level in levels.values()])
        naive = naive_smooth_kl(images, list(occurrences.values()), scale)
    else:
        fast, naive = torch.zeros(()), torch.zeros(())
        for name, level in levels.items():
            own, present, texts = with_level(names[name], images, occurrences[name])
            if term == "sclip":
                fast = fast + soft_clip(logits[name], level.incidence)
                naive = naive + naive_soft_clip(present, texts, own, scale)
            else:
                fast = fast + pointwise(logits[name] + bias, level.incidence, "sum")
                naive = naive + naive_pointwise(present, texts, own, scale, bias)
    wanted = [raw, scale, bias, *leaves.values()]
    assert fast.item() == pytest.approx(naive.item(), rel=1e-9)
    assert fast.item() > 0
    gradients = [torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) for loss in (fast, naive)]
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is None:
            assert ours is None or ours.abs().max() < 1e-12
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def test_a_text_repeated_by_one_image_is_two_occurrences():
    raw, levels, names, occurrences, _ = random_batch(
        [{"disease": ["a", "a", "b"]}, {"disease": ["b"], "explanation": ["x"]}]
    )
    images, scale = F.normalize(raw, dim=1), torch.tensor(7.0, dtype=torch.float64)
    level = levels["disease"]
    fast = soft_clip(scale * images @ level.texts.T, level.incidence)
    assert fast.item() == pytest.approx(naive_soft_clip(images, occurrences["disease"], names["disease"], scale).item())


def test_clip_is_open_clips_loss_on_captions():
    samples = [{"disease": [caption]} for caption in ("dr", "glaucoma", "dr", "drusen, amd")]  # two equal captions
    raw, levels, names, occurrences, leaves = random_batch(samples)
    images = F.normalize(raw, dim=1)
    objective = Objective("clip").double()
    ours = objective(images, {"caption": levels["disease"]})["loss"]
    captions = torch.stack([texts[0] for texts in occurrences["disease"]])
    theirs = ClipLoss()(images, captions, objective.logit_scale())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    wanted = [raw, *(leaves[name] for name in {own[0] for own in names["disease"]})]
    for a, b in zip(
        torch.autograd.grad(ours, wanted, retain_graph=True), torch.autograd.grad(theirs, wanted), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_pooled_levels_are_one_level_of_all_texts():
    raw, levels, names, occurrences, _ = random_batch(MISSING_LEVEL)
    images, scale = F.normalize(raw, dim=1), torch.tensor(1 / 0.07, dtype=torch.float64)
    own = [a + b for a, b in zip(names["disease"], names["explanation"], strict=True)]
    texts = [a + b for a, b in zip(occurrences["disease"], occurrences["explanation"], strict=True)]
    own, present, texts = with_level(own, images, texts)
    loss = Objective(ObjectiveSettings(1, 0, 0, levels="pooled")).double()(images, levels)["loss"]
    assert loss.item() == pytest.approx(naive_soft_clip(present, texts, own, scale).item())


def test_learned_parameters_are_those_that_the_settings_name():
    for settings in OBJECTIVES.values():
        objective = Objective(settings)
        assert objective.log_scale.requires_grad == settings.learn_temperature
        assert objective.bias.requires_grad == settings.learn_bias
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
