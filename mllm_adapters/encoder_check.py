"""Check that an encoder works from end to end: pretraining steps, a tower file, a graft into a LLaVA, an answer about a photograph.

`recipes/check_encoders.py` runs this check on every named encoder, and on your own before you rent a machine for it.
"""

import json
import resource
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mgll.formats import Row
from mgll.images.preprocessing import open_image
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.settings import PretrainSettings
from mgll.tower.file import load_tower
from mllm_adapters.ask import ask, load
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.graft.transplant import graft_tower
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import get_host

if TYPE_CHECKING:
    from torch import Tensor


QUESTION = "What does this fundus photograph show?"
#: An encoder fails where this share of its trained tensors, or more, did not change. Some may stay: a branch that is scaled by 0 at
#: the start passes no gradient to its own layers in the first step.
_STILL = 0.25
#: A loss that fell by no more than this share of it did not fall: sums in another order differ by as much.
_ROUNDING = 1e-5


class EncoderCheck(Row):
    """Result of `check_encoder`.

    Attributes:
        parameters: number of parameters of the tower.
        text_parameters: number of parameters of the text encoder.
        text_trained: how many parameters of the text encoder are trained.
        losses: loss at each step, always on the same images.
        seconds: time from one step to the next, the shortest.
        memory: peak memory of the process during training in GiB (of its tensors on a GPU).
        grid: side of the tower's grid of tokens.
        tokens: image tokens that the language model is given.
        reply: answer of the graft about the first photograph.
        problems: each failed check in words; empty where all passed.
    """

    parameters: int
    text_parameters: int
    text_trained: int
    losses: tuple[float, ...]
    seconds: float
    memory: float
    grid: int
    tokens: int
    reply: str
    problems: tuple[str, ...]


def one_batch(manifest: str | Path, count: int) -> list[Record]:
    """Choose `count` training records with as many different captions as possible, so that a loss can tell them apart.

    Their images' paths are absolute, since the records go into a manifest in another folder.

    Raises:
        FormatError: for a bad manifest.
        ValueError: if the manifest has fewer than `count` training images.
    """
    records = read_manifest(Path(manifest).resolve(), split="train")
    if len(records) < count:
        raise ValueError(f"{manifest} has {len(records)} training images, fewer than one batch of {count}")
    first: dict[str, int] = {}
    for index in range(len(records)):
        first.setdefault(records[index].caption, index)
        if len(first) == count:
            break
    chosen = dict.fromkeys([*first.values(), *range(count)])
    return [records[index] for index in list(chosen)[:count]]


def check_encoder(settings: PretrainSettings, steps: int, host: Path) -> EncoderCheck:
    """Train an encoder on one batch of the manifest, graft its tower into a LLaVA, and ask the graft about a photograph.

    Args:
        settings: settings of pretraining, among them the encoders and `batch_size`. The manifest, the number of epochs and the
            augmentation are replaced, so that every step sees the same batch. Everything is written to `settings.out`.
        steps: number of optimiser steps, two or more.
        host: a LLaVA checkpoint directory of any size.

    Raises:
        FormatError: for a manifest, weights or a host that cannot be read.
        HostError: if the tower cannot be grafted.
        ValueError: for an unknown encoder, settings that do not fit it, fewer than two steps, or too few training images.
    """
    # here, because torch takes seconds to import
    import torch

    from mgll.training.pretraining import pretrain

    if steps < 2:
        raise ValueError(f"steps {steps}: it takes two or more to see whether the loss falls")
    out = Path(settings.out)
    records = one_batch(str(settings.manifest), settings.batch_size)
    write_manifest(out / "manifest.jsonl", records)
    still = {"crop_scale": 1.0, "flip": 0.0, "colour_jitter": 0.0, "warmup": 0.5, "log_every": 1}
    settings = replace(
        settings,
        manifest=str(out / "manifest.jsonl"),
        epochs=steps,
        checkpoint_every=steps,
        **still,  # type: ignore[arg-type]
    )
    ends: list[float] = []
    tower = pretrain(settings, after_step=lambda step: ends.append(time.perf_counter()))
    memory = _peak_memory()
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    falls = min(losses[1:]) < losses[0] - _ROUNDING * abs(losses[0])
    problems = [] if falls and torch.tensor(losses).isfinite().all() else [f"losses {losses}"]
    text_parameters, text_trained, unmoved = _what_moved(settings, out / f"checkpoints/step-{steps:08d}")
    problems += unmoved
    model, header = load_tower(tower)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tokens, reply, odd = _graft_and_ask(host, tower, out / "graft", model.state_dict(), records[0].image)
    return EncoderCheck(
        parameters=parameters,
        text_parameters=text_parameters,
        text_trained=text_trained,
        losses=tuple(losses),
        seconds=min(end - start for start, end in pairwise(ends)),
        memory=memory,
        grid=header.geometry.grid,
        tokens=tokens,
        reply=reply,
        problems=(*problems, *odd),
    )


def _what_moved(settings: PretrainSettings, checkpoint: Path) -> tuple[int, int, list[str]]:
    """Count parameters of the text encoder, all and trained; name trained tensors of an encoder where too many did not change."""
    import torch
    from safetensors.torch import load_file

    from mgll.encoders.text import TextEncoder
    from mgll.encoders.vision import vision_encoder

    torch.manual_seed(settings.seed)  # as `pretrain` does
    tower = vision_encoder(settings.encoder, settings.image_size, settings.start_weights, **settings.encoder_options)
    texts = TextEncoder(settings.text_encoder, settings.text_training, settings.text_pooling)
    trained, problems = load_file(checkpoint / "model.safetensors"), []
    start = {f"tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    start |= {f"text_encoder.{name}": tensor for name, tensor in texts.state_dict().items()}
    for kind in ("tower.", *(() if texts.frozen else ("text_encoder.",))):
        own = {name for name in trained if name.startswith(kind)}
        same = sorted(name for name in own if torch.equal(trained[name], start[name]))
        if len(same) >= _STILL * len(own):
            problems.append(f"{len(same)} of {len(own)} trained tensors did not move: {', '.join(same[:3])}")
    sizes = {name: tensor.numel() for name, tensor in texts.named_parameters()}
    moving = {name.removeprefix("text_encoder.") for name in trained}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name in moving), problems


def _graft_and_ask(
    host: Path, tower: Path, out: Path, trained: "dict[str, Tensor]", photograph: str
) -> tuple[int, str, list[str]]:
    """Graft `tower` onto `host` in `out` and ask about a photograph; returns the image tokens, the reply and the failed checks."""
    import torch

    record = graft_tower(get_host("llava"), host, tower, out)
    validate(out)
    loaded = load(out, "cuda" if torch.cuda.is_available() else "cpu")
    inside = loaded.model.model.vision_tower
    own = getattr(inside, "donor", inside).state_dict()
    problems = [f"{name} is not as trained" for name in trained if not torch.equal(own[name].cpu(), trained[name])][:3]
    features, placeholders, finite = _seen(loaded, photograph)
    if not finite:
        problems.append("features or logits are not finite")
    if not features == placeholders == record.features:
        problems.append(f"{features} features, {placeholders} placeholders, the record says {record.features}")
    return placeholders, ask(loaded, photograph, QUESTION, max_new_tokens=8), problems


def _seen(loaded: LoadedHost, photograph: str) -> tuple[int, int, bool]:
    """Count a LLaVA's features and image tokens for one photograph; tell whether features and logits are finite."""
    import torch

    model = loaded.model
    inputs = loaded.processor(
        images=[open_image(photograph)], text=[loaded.host.prompt(QUESTION)], return_tensors="pt"
    ).to(model.device, model.dtype)
    with torch.inference_mode():
        (features,) = model.get_image_features(inputs["pixel_values"]).pooler_output
        logits = model(**inputs).logits
    places = int((inputs["input_ids"] == model.config.image_token_id).sum())
    return len(features), places, bool(features.isfinite().all() and logits.isfinite().all())


def _peak_memory() -> float:
    """Peak memory of this process in GiB (of its tensors on a GPU)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
