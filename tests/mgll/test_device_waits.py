"""A training step reads no value of a tensor, for which the processor would wait for the GPU.

The meta device proves it: its tensors have shapes and no values, so reading one, or picking rows by one, is an error there.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny_text_models import bert

import mgll.training.pretraining
from mgll.encoders.text import TextEncoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.settings import OBJECTIVES, PretrainSettings
from mgll.synthetic import generate
from mgll.training.data import text_levels
from mgll.training.model import ContrastiveModel
from mgll.training.pretraining import pretrain
from mgll.training.texts import TrainingTexts
from mgll.vocabulary.label_texts import describe_labels

LABELS = (["Health"], ["Mild NPDR", "DME"], ["Health"], ["Drusen"], ["DME"])


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    return bert(tmp_path_factory.mktemp("bert"))


def test_the_meta_device_refuses_what_would_wait():
    flags = torch.ones(3, device="meta") > 0
    for read in (lambda: bool(flags.all()), lambda: flags.tolist(), lambda: flags[flags], lambda: torch.unique(flags)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()


@pytest.mark.slow_except("mgll")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_of_each_objective_reads_no_value(texts, objective):
    settings = PretrainSettings(encoder="vit-nano-16", image_size=32, feature_width=16, objective=objective, chunk=2)
    encoder = TextEncoder(texts, "full")
    records = [Record(image="x", split="train", group="g", texts=describe_labels(own)) for own in LABELS]
    levels = text_levels(records, levels=settings.resolved_objective.levels)
    model = ContrastiveModel(vision_encoder(settings.encoder, 32), encoder, settings).to("meta").train()
    optimizer = torch.optim.AdamW(model.parameters())  # ours is fused, which "meta" has not
    batch = TrainingTexts(levels, encoder, "meta").batch(range(5))
    readable = torch.ones(5, dtype=torch.bool, device="meta")
    for _ in range(2):
        model(torch.empty(5, 3, 32, 32, device="meta"), readable, batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert len(optimizer.state) > 50


@pytest.mark.slow
def test_the_loop_waits_only_to_log_and_to_save(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "device", torch.device("meta"))
    monkeypatch.setattr(
        mgll.training.pretraining, "adamw", lambda model, _: torch.optim.AdamW(model.parameters())
    )  # not fused
    torch.__future__.set_swap_module_params_on_conversion(
        True
    )  # the optimizer keeps its parameters on the way to "meta"
    settings = PretrainSettings(
        manifest=str(generate(tmp_path / "eyes", 24, seed=0)),
        out=str(tmp_path / "run"),
        encoder="vit-nano-16",
        image_size=32,
        text_encoder=texts,
        text_training="full",
        batch_size=4,
        log_every=6,
    )
    done: list[int] = []
    try:
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            pretrain(settings, after_step=done.append)  # step 6 logs
        assert done == [1, 2, 3, 4, 5]
        done.clear()
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            pretrain(replace(settings, log_every=100, checkpoint_every=3), after_step=done.append)
        assert done == [1, 2]
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert not list(Path(settings.out).glob("checkpoints/step-*"))
