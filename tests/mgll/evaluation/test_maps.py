"""Maps of every kind of tower are what their definitions say, and show where a thing is that a probe was fitted to see."""

import importlib.util

import numpy as np
import pytest
import torch

from mgll.encoders.last_layers import layers_of
from mgll.evaluation.maps import NoMapError, TowerView, attention_rollout, grad_cam, text_similarity
from mgll.evaluation.probe import fit_probe
from mgll.tower.config import TIMM
from mgll.tower.model import PLAIN_VITS, build_model, hidden_state, image_feature, measure, normed, prefix_tokens
from mgll.tower.text_side import TextFacts, TextSide

pytestmark = pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="captum is an extra")
VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8}
TIMM_VIT = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "patch_size": 8}


def timm(architecture, **model_args):
    return {"model_type": TIMM, "architecture": architecture, "model_args": model_args}


VITS = {name: ({"model_type": name, "image_size": 32, **VIT}, 32) for name in PLAIN_VITS}
VITS |= {
    "timm vit": (timm("vit_base_patch16_224", **TIMM_VIT), 32),
    "timm siglip": (timm("vit_base_patch16_siglip_224", **TIMM_VIT), 32),
    "timm average, registers": (timm("vit_medium_patch16_reg4_gap_256", **TIMM_VIT), 32),
}
SWIN = {"img_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1] * 4}
OTHERS = {
    "timm convnext": (timm("convnext_atto", depths=[1, 1, 1, 1], dims=[4, 8, 12, 16]), 64),
    "timm resnet": (timm("resnet10t", channels=[4, 8, 12, 16]), 64),
    "timm swin": (timm("swin_tiny_patch4_window7_224", **SWIN), 64),
}


def view_of(name, pooling="mean"):
    config, size = (VITS | OTHERS)[name]
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return TowerView(model.eval(), pooling, measure(model, size).grid), torch.randn(2, 3, size, size)


def poolings(name):
    config, size = (VITS | OTHERS)[name]
    return ["mean", "cls"] if measure(build_model(config), size).class_token else ["mean"]


@pytest.mark.parametrize("name", [*VITS, *OTHERS])
def test_a_grad_cam_is_mean_gradient_times_activation(name):
    for pooling in poolings(name):
        view, pixels = view_of(name, pooling)
        weights = torch.randn(image_feature(view.model, pixels, pooling).shape[1])
        found = grad_cam(view, pixels, lambda pooled, weights=weights: pooled @ weights)
        assert found.shape == (2, view.grid, view.grid)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        if name in ("timm siglip", "siglip_vision_model", "timm resnet", "timm swin") and pooling == "mean":
            tokens = normed(view.model, hidden_state(view.model, pixels))
            expected = (tokens @ weights / view.grid**2).relu().view(found.shape)
            if (
                "resnet" not in name and "swin" not in name
            ):  # of a mean behind the norm: the classic class activation map
                np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)
        if pooling == "cls":
            np.testing.assert_allclose(found, by_hand(view, pixels, weights), atol=1e-5)
    assert found.max() > 0


def by_hand(view, pixels, weights):
    """Of what the last block's attention sees."""
    seen = {}
    norm = next(module for name, module in layers_of(view.model)[-1].named_children() if "norm" in name)
    hook = norm.register_forward_hook(lambda _m, _i, output: seen.update(tokens=output))
    score = (image_feature(view.model, pixels, "cls") @ weights).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, seen["tokens"])
    own, slope = (t[:, -(view.grid**2) :] for t in (seen["tokens"], gradient))
    return (own * slope.mean(dim=1, keepdim=True)).sum(-1).relu().view(-1, view.grid, view.grid).detach().numpy()


@pytest.mark.parametrize("name", VITS)
def test_a_rollout_is_the_product_of_the_blocks(name):
    for pooling in poolings(name):
        view, pixels = view_of(name, pooling)
        with torch.no_grad():
            before = image_feature(view.model, pixels, pooling)
        found = attention_rollout(view, pixels)
        assert found.shape == (2, view.grid, view.grid)
        assert (found.sum(axis=(1, 2)) <= 1 + 1e-5).all()
        assert (found > 0).all()
        assert np.ptp(found) > 1e-4
        with torch.no_grad():  # the model is as it was
            torch.testing.assert_close(image_feature(view.model, pixels, pooling), before)


@pytest.mark.parametrize("name", ["clip_vision_model", "timm vit"])
def test_a_rollout_of_even_attention_is_even(name):
    view, pixels = view_of(name, "cls")
    with torch.no_grad():
        for parameter_name, parameter in view.model.named_parameters():
            if "q_proj" in parameter_name:
                parameter.zero_()
            if "attn.qkv" in parameter_name:
                parameter[:16].zero_()
    tokens = view.grid**2 + 1
    step = (torch.full((tokens, tokens), 1 / tokens) + torch.eye(tokens)) / 2
    expected = torch.linalg.matrix_power(step, 3)[0, 1:].view(view.grid, view.grid)
    np.testing.assert_allclose(attention_rollout(view, pixels)[0], expected, atol=1e-6)


def text_side(width):
    facts = {"encoder": "embedded", "pooling": "mean", "width": 5, "feature_width": 6, "temperature": 0.07, "bias": 0.0}
    facts |= {"levels": ("disease",)}
    return TextSide(TextFacts(**facts), torch.randn(6, width), torch.randn(6, 5), torch.randn(6))


@pytest.mark.parametrize("name", ["clip_vision_model", "timm average, registers", "timm convnext", "timm swin"])
def test_text_similarity_is_the_cosine_of_each_place(name):
    view, pixels = view_of(name)
    with torch.no_grad():
        tokens = normed(view.model, hidden_state(view.model, pixels))[:, prefix_tokens(view.model) :]
    side, texts = text_side(tokens.shape[2]), torch.nn.functional.normalize(torch.randn(3, 6), dim=1)
    found = text_similarity(view, pixels, side, texts)
    place = side.image_features(tokens[1, 2 % view.grid * view.grid + 1][None])[0]
    expected = torch.cosine_similarity(place, texts.mean(dim=0), dim=0)
    assert found[1, 2 % view.grid, 1] == pytest.approx(float(expected), abs=1e-5)


def test_the_maps_show_where_the_thing_is_that_the_probe_sees():
    """Half of the pictures have a bright square somewhere; a probe of random features is told which."""
    view, _ = view_of("timm siglip")
    rng = np.random.default_rng(0)
    has, places = np.arange(160) % 2 == 0, rng.integers(0, 4, (160, 2))
    pixels = torch.from_numpy(rng.normal(size=(160, 3, 32, 32)).astype(np.float32))
    for number in np.flatnonzero(has):
        row, column = 8 * places[number]
        pixels[number, :, row : row + 8, column : column + 8] += 4
    with torch.no_grad():
        features = image_feature(view.model, pixels, "mean").numpy()
    probe = fit_probe(features[:120], has[:120, None], features[120:], has[120:, None])
    direction = torch.from_numpy(probe.weights[:, 0] / probe.deviation).float()
    found = grad_cam(view, pixels[120:][has[120:]], lambda pooled: pooled @ direction)
    peaks = np.stack(np.unravel_index(found.reshape(len(found), -1).argmax(axis=1), (4, 4)), axis=1)
    assert (peaks == places[120:][has[120:]]).all(axis=1).mean() > 0.8


def test_what_has_no_map_says_so():
    convolutional, pixels = view_of("timm convnext")
    with pytest.raises(NoMapError, match="convolutional"):
        attention_rollout(convolutional, pixels)
    pooled_by_a_head = TowerView(view_of("timm siglip")[0].model, "head", 4)
    with pytest.raises(NoMapError, match="head"):
        text_similarity(pooled_by_a_head, pixels, text_side(16), torch.randn(1, 6))
