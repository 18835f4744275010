"""Pretraining: an image encoder is trained against the texts of a manifest and written as a tower file."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from mgll.bounds import check_bounds
from mgll.encoders.text import TextEncoder
from mgll.encoders.tokens import Tokens
from mgll.encoders.vision import vision_encoder
from mgll.files import write_text
from mgll.formats import FormatError
from mgll.images.looks import look_at
from mgll.manifest.records import Record, read_manifest
from mgll.provenance import provenance
from mgll.run_folder import claim_folder, locked
from mgll.settings import PretrainSettings
from mgll.tower.curve import LOG, thinned
from mgll.tower.file import save_tower
from mgll.tower.model import patch_size
from mgll.tower.seen import read_seen, rows_of, save_seen, seen_path
from mgll.training.augmentation import settle_augmentation
from mgll.training.checkpoint import checkpoint_state, load_checkpoint, newest_checkpoint, save_checkpoint
from mgll.training.damaged_images import write_damaged
from mgll.training.data import TrainingImages, larger_side, text_levels
from mgll.training.distributed import (
    configure_deepspeed,
    gather_names,
    gather_rows,
    refuse_small_batches,
    refuse_split_weights,
    start_accelerator,
    to_device,
)
from mgll.training.identity import SETTINGS, claim_images, in_provenance, made_of, settle_decode
from mgll.training.loader import TrainingBatches, batches_from, pixels_on, records_of_step
from mgll.training.looks import Augmentation
from mgll.training.model import ContrastiveModel, text_side_of
from mgll.training.not_finite import no_step, note_step, refuse_not_finite, stop_if_not_finite
from mgll.training.precision import attention_for, float32_products, settle_precision
from mgll.training.shared_images import SharedImages
from mgll.training.steps import cut_log, learning_rate_factor, steps_per_epoch
from mgll.training.text_corruption import corrupt_texts
from mgll.training.texts import TrainingTexts
from mgll.training.token_file import NAME as TOKENS
from mgll.training.token_file import tokens_from_file
from mgll.training.workers import SHARES, processes_here


class BadImagesError(ValueError):
    """More training images are damaged than the settings allow.

    Attributes:
        paths: paths of the damaged images that were found.
    """

    def __init__(self, message: str, paths: Collection[str]) -> None:
        super().__init__(message, paths)  # both, so that the error passes from one process to another
        self.message, self.paths = message, paths

    def __str__(self) -> str:
        return self.message


def pretrain(settings: PretrainSettings, *, after_step: Callable[[int], None] | None = None) -> Path:
    """Train and write `mgll.ckpt`; resumes from the newest checkpoint of `settings.out` if there is one.

    Args:
        settings: settings of the run; `manifest` must name a file.
        after_step: called with the number of every finished step.

    Returns:
        Path of the tower file.

    Raises:
        FormatError: for a bad manifest.
        NotFiniteError: at the first loss or gradient that is NaN or infinite; `not_finite.txt` lists the batch.
        BadImagesError: when more than `max_bad_share` of the training images are damaged; `damaged_images.txt` lists them.
        ValueError: when no manifest is named, or it has fewer training images than one batch; when `out` holds a run with other
            settings, texts, images or start weights, as far as they decide its weights, or another process trains there; when the
            batch size is not divisible by the number of processes, or the launcher accumulates gradients or splits weights; when a
            flip or jitter is asked for that texts contradict; or when encoder, weights and settings do not fit together.
    """
    settings = settle_precision(settings)
    accelerator = start_accelerator(
        mixed_precision=settings.mixed_precision, log_with=list(settings.trackers) or None, project_dir=settings.out
    )
    refuse_small_batches(accelerator)
    refuse_split_weights(accelerator)
    if settings.compile:
        _check_compiler(accelerator.device)
    if settings.manifest is None:
        raise ValueError("settings.manifest is None: name a manifest")
    records = read_manifest(settings.manifest, split="train")
    _check(settings, len(records), accelerator.num_processes)
    with locked(settings.out, by_this_process=accelerator.is_main_process), float32_products(tf32=False):
        return _pretrain(accelerator, settings, records, after_step)


def _pretrain(
    accelerator: Accelerator,
    settings: PretrainSettings,
    records: Sequence[Record],
    after_step: Callable[[int], None] | None,
) -> Path:
    """Train on the records of a checked manifest, in a folder that no other run writes into."""
    out = Path(settings.out)
    settings, said = settle_augmentation(settings, records)
    settings, decoded = settle_decode(settings)
    for sentence in filter(None, (*said, decoded)):
        accelerator.print(sentence)
    text_encoder = TextEncoder(
        settings.text_encoder, settings.text_training, settings.text_pooling, settings.text_dropout
    )
    made: dict[str, Any] = {}
    if accelerator.is_main_process:
        made = made_of(settings, getattr(text_encoder.model.config, "_commit_hash", None))
        _claim(out, settings, made, records)
    trained_on = corrupt_texts(
        records, settings.wrong_texts, settings.missing_texts, settings.granularity, settings.seed
    )
    levels = text_levels(trained_on, settings.resolved_objective.levels, settings.join_levels)

    def tokens(own: Sequence[str]) -> Tokens:
        with accelerator.main_process_first():  # it makes the file, the others read it
            return tokens_from_file(out / TOKENS, text_encoder, own)

    share = (accelerator.process_index, accelerator.num_processes)
    texts = TrainingTexts(levels, text_encoder, accelerator.device, tokens, *share)
    images = _images(settings, records, accelerator)
    torch.manual_seed(settings.seed)
    tower = vision_encoder(settings.encoder, settings.image_size, settings.start_weights, **settings.encoder_options)
    model = ContrastiveModel(tower, text_encoder, settings)
    tokens_of_image = (settings.image_size // patch_size(tower)) ** 2
    try:
        with attention_for(accelerator.device, settings.mixed_precision != "no", tokens_of_image):
            _train(accelerator, settings, model, images, texts, after_step)
    except BadImagesError as error:
        if accelerator.is_main_process:
            write_damaged(out, error.paths)
        accelerator.wait_for_everyone()  # a launcher ends all processes as soon as one has ended
        raise
    refuse_not_finite(tower.state_dict(), "the trained tower")
    path = out / "mgll.ckpt"
    rows = _digests(records, accelerator) if settings.remember_images else None
    if accelerator.is_main_process:
        seen_path(path).unlink(missing_ok=True)  # an earlier run's
        origin = {
            "settings": asdict(settings),
            "objective": asdict(settings.resolved_objective),
            **in_provenance(made),
            "images_seen": None if rows is None else _remember(path, rows, settings),
            "curve": thinned(out / LOG),
            **provenance(),
        }
        side = text_side_of(model, text_encoder, settings, levels)
        save_tower(path, tower, settings.preprocessing, settings.pooling, side, **origin)
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # `end_training` would end the processes' group too, and with it the next run
        tracker.finish()
    return path


def save_start_tower(settings: PretrainSettings, path: str | os.PathLike[str]) -> None:
    """Write the tower that a run of these settings starts from: its start weights, or the random ones of its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        tower = vision_encoder(
            settings.encoder, settings.image_size, settings.start_weights, **settings.encoder_options
        )
    save_tower(
        path, tower, settings.preprocessing, settings.pooling, objective="none: not pretrained", seed=settings.seed
    )


def _images(settings: PretrainSettings, records: Sequence[Record], accelerator: Accelerator) -> TrainingImages:
    side, kept = larger_side(settings.image_size), None
    if settings.cache_images and settings.workers and not SHARES:
        accelerator.print("decoded images are not kept in memory: workers share none on this system")
    elif settings.cache_images:
        kept = SharedImages(len(records), side, settings.cache_gib * 2**30 / processes_here())
        accelerator.print(kept.told(settings.workers))
    return TrainingImages(
        records,
        settings.preprocessing,
        Augmentation(settings.crop_scale, settings.flip or 0.0, settings.colour_jitter or 0.0, settings.seed),
        kept,
        settings.source_resolution,
        settings.augment_on_device,
    )


def _digests(records: Sequence[Record], accelerator: Accelerator) -> np.ndarray:
    """Digests of all training images [n, 18]. Each process looks at its share, so that none waits long for another."""
    share = (
        records[index].image for index in range(accelerator.process_index, len(records), accelerator.num_processes)
    )
    cores = (os.cpu_count() or 1) // processes_here()
    bar = "remembering images" if accelerator.is_main_process else None
    return gather_rows(rows_of(look_at(share, processes=max(1, cores), bar=bar).values()))


def _remember(path: Path, rows: np.ndarray, settings: PretrainSettings) -> dict[str, object]:
    """Write the digests beside the tower, with those of the tower that it started from, and return what its origin says."""
    start = settings.start_weights or (settings.encoder if settings.encoder.startswith("hf:") else None)
    if start is None:
        return save_seen(path, rows)
    try:
        before = read_seen(start)
    except FormatError:
        return save_seen(path, rows, f"what its start weights ({Path(start).name}) were trained on")
    return save_seen(path, np.concatenate([rows, before.rows]), str(before.origin.get("not_known") or ""))


def _check(settings: PretrainSettings, images: int, processes: int) -> None:
    check_bounds(settings)
    if settings.batch_size % processes:
        raise ValueError(f"batch_size {settings.batch_size} does not divide by {processes} processes")
    if images < settings.batch_size:
        raise ValueError(
            f"{settings.manifest} has {images} training images, fewer than one batch of {settings.batch_size};"
            " lower --batch-size"
        )


def _check_compiler(device: torch.device) -> None:
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ValueError(f"compile: no C++ compiler here ({', '.join(compilers)}); install one, or leave --compile out")


def _claim(out: Path, settings: PretrainSettings, made: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Write what the run is made of into the folder, or refuse a folder that holds checkpoints of another."""
    newest = newest_checkpoint(out / "checkpoints")
    others = {name: value for name, value in asdict(settings).items() if name not in made}
    what = "checkpoints of a run made of something else"
    claim_folder(out, SETTINGS, made, newest is not None, what, others)
    damaged = checkpoint_state(newest)["bad_images"] if newest else ()
    claim_images(out, records, settings.verify_images, newest is not None, damaged)
    write_text(out / "provenance.json", json.dumps(provenance(), indent=2))


def _train(
    accelerator: Accelerator,
    settings: PretrainSettings,
    model: ContrastiveModel,
    images: TrainingImages,
    texts: TrainingTexts,
    after_step: Callable[[int], None] | None,
) -> None:
    optimizer = adamw(model.train(), settings)
    configure_deepspeed(accelerator, settings.batch_size, settings.clip_grad, settings.mixed_precision)
    wrapped, prepared = accelerator.prepare(model, optimizer)
    folder = Path(settings.out) / "checkpoints"
    done, bad = 0, set()
    if newest := newest_checkpoint(folder):
        state = load_checkpoint(newest, model, prepared.optimizer)
        done, bad = state["step"], set(state["bad_images"])
        accelerator.print(f"resuming after step {done}")
    total = settings.epochs * steps_per_epoch(len(images), settings.batch_size)
    log = Path(settings.out) / LOG
    if accelerator.is_main_process:
        cut_log(log, done)
    accelerator.init_trackers("mgll")
    bar = tqdm(total=total, initial=done, desc=settings.objective, disable=not accelerator.is_main_process)
    wrong = no_step(accelerator.device)
    batches = TrainingBatches(images, texts.table, settings)
    pixels_of = pixels_on(accelerator.device, settings.preprocessing)
    processes = (accelerator.process_index, accelerator.num_processes)
    for step, batch in batches_from(batches, settings, done, *processes):
        # Dropout and the like draw from this, so that a resumed step draws what the undisturbed one drew.
        torch.manual_seed(settings.seed * 1_000_003 + step.number)
        rate = settings.learning_rate * learning_rate_factor(step.number, total, settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        done = step.number + 1
        reports, saves = (done % n == 0 or done == total for n in (settings.log_every, settings.checkpoint_every))
        bad |= _damaged(step.own, batch.readable, images.records)
        if reports or saves:  # in other steps no process waits for another's list
            bad = gather_names(bad)
            _stop_if_too_many(bad, len(images), settings.max_bad_share)
        readable = to_device(torch.from_numpy(batch.readable), accelerator.device)
        terms = wrapped(pixels_of(batch), readable, texts.on_device(batch.texts))
        accelerator.backward(terms["loss"])
        norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip_grad)
        # gradients of fp16 overflow now and then, and its scaler leaves out such a step
        wrong = note_step(wrong, step.number, terms["loss"], None if accelerator.scaler else norm)
        prepared.step()
        prepared.zero_grad()
        if reports or saves:
            stop_if_not_finite(
                wrong,
                Path(settings.out),
                lambda at: [images.records[index].image for index in records_of_step(settings, images, at)],
                accelerator.is_main_process,
            )
        if reports:
            values = {name: float(value.detach()) for name, value in terms.items()}
            accelerator.log(values, step=done)
            if accelerator.is_main_process:
                line = {"step": done, "epoch": step.epoch, "learning_rate": rate, "damaged": len(bad), **values}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            bar.set_postfix(loss=f"{values['loss']:.3f}")
        bar.update()
        if saves:
            kept = {"bad_images": sorted(bad)}
            save_checkpoint(folder, done, model, prepared.optimizer, kept, write=accelerator.is_main_process)
            accelerator.wait_for_everyone()
        if after_step:
            after_step(done)
    bar.close()
    if accelerator.is_main_process:
        listed = write_damaged(Path(settings.out), bad)
        if bad:
            print(f"{len(bad)} damaged images were left out; {listed} lists them")


def adamw(model: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW in its fused form (one pass over memory).

    Parameters with fewer than two dimensions (norms, biases, the class token of a CLIP ViT, scalars) get no weight decay.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, settings.betas, settings.eps, fused=True)


def _damaged(own: list[int], readable: np.ndarray, records: Sequence[Record]) -> set[str]:
    return {records[index].image for index, ok in zip(own, readable.tolist(), strict=True) if not ok}


def _stop_if_too_many(bad: set[str], images: int, share: float) -> None:
    if len(bad) / images > share:
        first = "\n  ".join(sorted(bad)[:10])
        raise BadImagesError(
            f"{len(bad)} of {images} training images are damaged, more than the allowed share of {share:.1%}"
            f" (--max-bad-share); damaged_images.txt in the folder of the run lists them, the first:\n  {first}",
            bad,
        )
