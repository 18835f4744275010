"""A training step on unique texts against the naive form and against open_clip's; printed as ratios, side by side in one process.

    taskset -c 1 python tests/speed/training_step.py [--encoders vit-base-16 vit-tiny-16] [--batch 32] [--rounds 3] [--alone]

Times are processor time of this process with one thread, so that other work on the machine does not decide; forms take turns, and
the order turns from round to round.

Tower and BERT-base have random weights in fp32 and are all trained; pixels are random; texts are those of sampled eyes.

- naive: every string is encoded, filled up to 77 tokens, and has its own column of logits (`mgll.naive_objective`).
- open_clip: one caption an image, every caption encoded, its `ClipLoss`; cut or filled up to 77 tokens, as its tokenizers do, and
  also only filled up to the longest.
- other work: all of our step but forward and backward of tower and text encoder, with workers: these have picked the texts and made
  the pixels, which are whole numbers still.
- compiled (on demand): the same step with both encoders compiled.

ViT-B/16 at batch 32 needs about 18 GB for the naive form; a smaller --batch shares fewer texts, which favours the naive form.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))  # the packages before folders of their names in tests/

import numpy as np
import torch
from open_clip.loss import ClipLoss
from rows import Row, at_least, at_most
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

from mgll.encoders.text import TextEncoder, embedded_text_encoder
from mgll.encoders.vision import vision_encoder
from mgll.manifest.records import Record
from mgll.naive_objective import Occurrences, naive_objective
from mgll.settings import PretrainSettings
from mgll.synthetic import sample_eye
from mgll.tower.model import image_feature
from mgll.training.data import TextLevel, text_levels
from mgll.training.loader import Batch, pixels_on
from mgll.training.model import ContrastiveModel
from mgll.training.pretraining import adamw
from mgll.training.texts import TrainingTexts
from mgll.vocabulary.label_texts import describe_labels

PADDED = 77
#: What a step does beside its encoders.
OTHER = ("batch", "objective", "clipping", "AdamW")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["vit-base-16", "vit-tiny-16"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objectives", nargs="+", default=["mgll", "clip"])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument(
        "--distinct", action="store_true", help="a text of its own for each image, so that no caption is shared"
    )
    parser.add_argument("--alone", action="store_true", help="no other form of the step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    texts = [describe_labels(sample_eye(random)) for _ in range(options.batch)]
    if options.distinct:
        texts = [own | {"case": [f"case {i}"]} for i, own in enumerate(texts)]
    records = [Record(image=str(i), split="train", group=str(i), texts=own) for i, own in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        BertModel(BertConfig()).save_pretrained(folder)
        AutoTokenizer.from_pretrained(embedded_text_encoder()).save_pretrained(folder)
        for encoder in options.encoders:
            for objective in options.objectives:
                compare(encoder, folder, records, objective, options)


def rows(encoder: str = "vit-tiny-16", batch: int = 16, rounds: int = 1) -> Iterator[Row]:
    """Our step with one caption an image against open_clip's, and what lies outside the encoders."""
    random = np.random.default_rng(0)
    eyes = (describe_labels(sample_eye(random)) for _ in range(batch))
    records = [Record(image=str(i), split="train", group=str(i), texts=texts) for i, texts in enumerate(eyes)]
    with tempfile.TemporaryDirectory() as folder:
        BertModel(BertConfig()).save_pretrained(folder)
        AutoTokenizer.from_pretrained(embedded_text_encoder()).save_pretrained(folder)
        step = Step(encoder, folder, records, "clip")
    step.timed(step.ours)  # warms up
    theirs = partial(step.open_clip, None)
    ratios = [step.timed(theirs)[0] / step.timed(step.ours)[0] for _ in range(rounds)]
    work = f"training step, {encoder}, batch {batch}, one caption an image"
    yield at_least("open_clip's " + work, "ours, texts filled up alike", float(np.median(ratios)), 1.0)
    shares = [sum(step.other_work()) for _ in range(rounds)]
    yield at_most(f"{work}: outside the encoders", "the step", float(np.median(shares)), 0.05)


def compare(encoder: str, texts: str, records: Sequence[Record], objective: str, options: argparse.Namespace) -> None:
    """All ratios for one tower and objective."""
    step = Step(encoder, texts, records, objective)
    others: dict[str, Callable[[], Tensor]] = {"naive": step.naive}
    if objective == "clip":
        others = {"open_clip": step.open_clip, "open_clip, not filled up": partial(step.open_clip, None)}
    losses_of = {"ours": step.ours, **({} if options.alone else others)}
    forms = {name: partial(step.timed, loss) for name, loss in losses_of.items()}
    if options.compiled:
        compiled = Step(encoder, texts, records, objective, compiled=True)
        forms["ours, compiled"] = partial(compiled.timed, compiled.ours)  # each updates its own weights
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    shares, losses = [], {}
    for timed in forms.values():  # warms up, and compiles
        timed()
    for turn in range(options.rounds):
        for name in list(forms)[:: -1 if turn % 2 else 1]:
            taken, *losses[name] = forms[name]()
            seconds[name].append(taken)
        shares.append(step.other_work())
    strings = sum(len(level.texts) for level in step.levels.values())
    print(
        f"{encoder}, {objective}, batch {len(records)}: {strings} strings, {step.batch.texts.unique} unique texts,"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; our step {np.median(seconds['ours']):.2f} s"
    )
    for name in list(forms)[1:]:
        ratio = np.median(np.divide(seconds[name], seconds["ours"]))
        loss, norm = np.abs(np.divide(losses[name], losses["ours"]) - 1)
        print(f"  {name} / ours: {ratio:.2f} x the time of a step (loss {loss:.0e} apart, gradient's norm {norm:.0e})")
    parts = np.median(shares, axis=0)
    named = ", ".join(f"{name} {part:.1%}" for name, part in zip(OTHER, parts, strict=True))
    print(f"  other work: {parts.sum():.1%} of our step ({named})", flush=True)


class Step:
    """A model and one batch, and the ways to make a step of them."""

    def __init__(
        self, encoder: str, texts: str, records: Sequence[Record], objective: str, compiled: bool = False
    ) -> None:
        torch.manual_seed(0)
        self.settings = PretrainSettings(
            encoder=encoder,
            image_size=224,
            feature_width=768,
            objective=objective,
            text_training="full",
            compile=compiled,
        )
        self.encoder, self.rows = TextEncoder(texts, "full"), range(len(records))
        self.model = ContrastiveModel(vision_encoder(encoder, 224), self.encoder, self.settings)
        self.levels: Mapping[str, TextLevel] = text_levels(
            records, levels="caption" if objective == "clip" else "separate"
        )
        self.texts = TrainingTexts(self.levels, self.encoder, "cpu")
        self.optimizer = adamw(self.model, self.settings)
        pixels = torch.randint(0, 256, (len(records), 3, 224, 224), dtype=torch.uint8)
        self.batch = Batch(pixels, np.ones(len(records), dtype=bool), self.texts.table.pick(self.rows), None)
        self.pixels_of = pixels_on(torch.device("cpu"), self.settings.preprocessing)
        self.pixels, self.readable = self.pixels_of(self.batch), torch.ones(len(records), dtype=torch.bool)

    def ours(self) -> Tensor:
        return self.model(self.pixels, self.readable, self.texts.batch(self.rows))["loss"]

    def naive(self) -> Tensor:
        images = self.model.encode_images(self.pixels)
        return naive_objective(
            images, {name: self.every_string(name, PADDED) for name in self.levels}, self.model.objective
        )

    def open_clip(self, length: int | None = PADDED) -> Tensor:
        images = self.model.encode_images(self.pixels)
        captions = self.every_string("caption", length).texts
        return ClipLoss()(images, captions, self.model.objective.logit_scale())

    def every_string(self, name: str, length: int | None) -> Occurrences:
        """One level, each string tokenised and encoded where it occurs."""
        level = self.levels[name]
        own = [level.of_record(row) for row in self.rows]
        names = torch.from_numpy(np.concatenate(own).astype(np.int64))
        tokens = self.encoder.tokenizer(
            [level.unique[i] for i in names],
            padding="max_length" if length else "longest",
            max_length=length or 256,
            truncation=True,
            return_tensors="pt",
        )
        features = self.model.encode_texts(tokens["input_ids"], tokens["attention_mask"])
        return Occurrences(
            features, torch.arange(len(own)).repeat_interleave(torch.tensor([len(o) for o in own])), names
        )

    def timed(self, loss: Callable[[], Tensor]) -> tuple[float, float, float]:
        """Seconds of a step, its loss and the norm of its gradient; at learning rate 0, so that all see the same weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        started = time.process_time()
        value = loss()
        value.backward()
        norm = self.update()
        return time.process_time() - started, value.item(), norm

    def update(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm.item()

    def other_work(self) -> list[float]:
        """Shares of our step outside forward and backward of the encoders, by `OTHER`; the graph is cut at their outputs."""
        clock = [time.process_time()]
        pixels, batch = self.pixels_of(self.batch), self.texts.on_device(self.batch.texts)
        clock.append(time.process_time())
        encoded = [
            image_feature(self.model.tower, pixels, self.model.pooling),
            self.model.text_encoder(*batch.inputs),
        ]
        clock.append(time.process_time())
        images, texts = (feature.detach().requires_grad_() for feature in encoded)
        images_in_common = torch.nn.functional.normalize(self.model.image_projection(images), dim=1)
        texts_in_common = torch.nn.functional.normalize(self.model.text_projection(texts), dim=1)
        self.model.compare(images_in_common, self.readable, texts_in_common, batch)["loss"].backward()
        clock.append(time.process_time())
        torch.autograd.backward(encoded, [images.grad, texts.grad])
        clock.append(time.process_time())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        clock.append(time.process_time())
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock.append(time.process_time())
        assert norm.isfinite()
        batching, _, loss, _, clipping, update = np.diff(clock)
        return [float(part / (clock[-1] - clock[0])) for part in (batching, loss, clipping, update)]


if __name__ == "__main__":
    main()
