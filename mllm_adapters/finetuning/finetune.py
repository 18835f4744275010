"""Fine-tune a host or a graft on four-option questions: LoRA on its language model, the connector in full, the tower frozen.

The loss is taken at the answer letter (and the end of sequence, where the host closes an answer with it), nowhere else.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from mgll.files import atomic_path, sha256, write_text
from mgll.formats import FormatError
from mgll.images.preprocessing import ImageError
from mgll.provenance import provenance
from mgll.run_folder import claim_folder, locked, refuse_another_run
from mgll.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from mgll.training.distributed import start_accelerator
from mgll.training.not_finite import no_step, note_step, refuse_not_finite, stop_if_not_finite
from mgll.training.steps import cut_log, global_batches, learning_rate_factor, process_share
from mgll.vocabulary.questions import LETTERS
from mllm_adapters.checkpoints.model_card import write_card
from mllm_adapters.contract.finetune_record import FINETUNE, FinetuneRecord, read_finetune
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.alignment import align_connector
from mllm_adapters.finetuning.batches import Images, Texts
from mllm_adapters.loading.load import load, shard_hashes
from mllm_adapters.loading.lora import add_lora, connector_parameters, save_trained
from mllm_adapters.prompting.answer_slot import forward_options
from mllm_adapters.settings import FinetuneSettings, TrainingQuestion, check_trained_parts

RUN = "run.json"
CHECKPOINTS = "checkpoints"


def finetune(
    directory: str | os.PathLike[str],
    questions: Sequence[TrainingQuestion],
    out: str | os.PathLike[str],
    settings: FinetuneSettings | None = None,
) -> Path:
    """Fine-tune a host or a graft; `mllm_adapters.load` (or PEFT) puts the trained weights in `out` onto the base again.

    A run that was killed goes on from its newest checkpoint when called again with the same arguments; on a CPU the result is the
    same bit for bit as without the interruption. A finished run is left as it is.

    Args:
        directory: a host or a graft.
        questions: what to learn.
        out: folder of the run.
        settings: the defaults when None.

    Returns:
        `out`.

    Raises:
        FormatError: if the base is damaged, or is itself a fine-tuned directory.
        HostError: if LoRA or the alignment does not fit the host.
        ImageError: if an image is missing or cannot be read.
        NotFiniteError: at the first loss or gradient that is NaN or infinite; `not_finite.txt` lists the batch.
        ValueError: if `out` holds another run, or another process trains there, the questions are fewer than a batch, an answer
            is no letter from A to D, a caption is missing for `align`, or the batch does not divide by the processes.
    """
    settings, out = settings or FinetuneSettings(), Path(out)
    if (Path(directory) / FINETUNE).is_file():
        raise FormatError(directory, None, "is a fine-tuned directory already; name its base")
    accelerator = start_accelerator(mixed_precision=settings.mixed_precision)
    _check(settings, questions, accelerator.num_processes)
    run = _describe(Path(directory), questions, out, settings)
    with locked(out, by_this_process=accelerator.is_main_process):
        return _finetune(accelerator, Path(directory), questions, out, settings, run)


def _finetune(
    accelerator: Accelerator,
    directory: Path,
    questions: Sequence[TrainingQuestion],
    out: Path,
    settings: FinetuneSettings,
    run: dict[str, Any],
) -> Path:
    """Fine-tune with checked settings, in a folder that no other run writes into."""
    if _is_finished(out, run):
        accelerator.print(f"{out} holds this very run, finished")
        return out
    if accelerator.is_main_process:
        begun = newest_checkpoint(out / CHECKPOINTS) is not None
        claim_folder(out, RUN, run, begun, "another run", {"provenance": provenance()})
    loaded = _load_base(directory, accelerator, settings)
    torch.manual_seed(settings.seed)
    peft_model = add_lora(
        loaded.model, loaded.host, settings.rank, settings.alpha, settings.dropout, settings.lora_targets
    )
    if settings.gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable()
        loaded.model.enable_input_require_grads()
    images = Images(loaded, [q.image for q in questions], settings.image_cache_gib * 2**30)
    texts = Texts(loaded)
    letters = texts.letters(questions[0].question)
    if settings.align and not newest_checkpoint(out / CHECKPOINTS):
        explained = _align(loaded, questions, images)
        accelerator.print(
            f"connector aligned with captions: {explained:.1%} of their variance explained on images left out"
        )
    _train(accelerator, settings, peft_model, loaded, questions, images, texts, out)
    images.close()
    trained = {name: value for name, value in peft_model.named_parameters() if value.requires_grad}
    refuse_not_finite(trained, "the trained weights")
    if accelerator.is_main_process:
        _write_result(out, run, peft_model, loaded, letters)
    accelerator.wait_for_everyone()
    return out


def _align(loaded: LoadedHost, questions: Sequence[TrainingQuestion], images: Images) -> float:
    if not all(q.caption for q in questions):
        raise ValueError("align needs the right answer in words; give every question a caption")
    pairs = list(dict.fromkeys((q.image, q.caption) for q in questions))
    batches = [images.batch([path for path, _ in pairs[i : i + 32]]) for i in range(0, len(pairs), 32)]
    return align_connector(loaded, [caption for _, caption in pairs], batches)


def total_steps(settings: FinetuneSettings, questions: int) -> int:
    """Number of optimiser steps of a run on this number of questions."""
    return settings.steps if settings.steps is not None else settings.epochs * (questions // settings.batch_size)


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens.

    Args:
        logits: logits of the last positions, from the one before the answer on: [B, 1 + answer length, vocabulary].
        answers: token ids [B, answer length].
    """
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), answers.flatten())


def _check(settings: FinetuneSettings, questions: Sequence[TrainingQuestion], processes: int) -> None:
    check_trained_parts(settings)
    if settings.batch_size % processes:
        raise ValueError(f"batch_size {settings.batch_size} does not divide by {processes} processes")
    if len(questions) < settings.batch_size:
        raise ValueError(
            f"{len(questions)} questions are fewer than one batch of {settings.batch_size}; lower --batch_size"
        )
    wrong = sorted({q.letter for q in questions} - set(LETTERS))
    if wrong:
        raise ValueError(f"answers must be one of {LETTERS}, found {wrong[:4]}")


def _describe(
    base: Path, questions: Sequence[TrainingQuestion], out: Path, settings: FinetuneSettings
) -> dict[str, Any]:
    """Describe everything that decides the outcome of a run; a run is resumed only under the same description."""
    paths = sorted({q.image for q in questions})
    if lacking := [str(path) for path in paths if not path.is_file()]:
        raise ImageError(f"{len(lacking)} of {len(paths)} images are not there: {', '.join(lacking[:4])}")
    hashes = {path: sha256(path) for path in paths}
    digest = hashlib.sha256()
    for q in questions:
        digest.update(json.dumps([hashes[q.image], q.question, q.letter, q.caption]).encode())
    return {
        "base": os.path.relpath(base.resolve(), out.resolve()),
        "base_sha256": shard_hashes(base),
        "settings": asdict(settings),
        "questions": {"count": len(questions), "images": len(hashes), "sha256": digest.hexdigest()},
    }


def _is_finished(out: Path, run: dict[str, Any]) -> bool:
    if not (out / FINETUNE).is_file():
        return False
    refuse_another_run(out, read_finetune(out).model_dump(), run, "another run")
    return True


def _load_base(directory: str | os.PathLike[str], accelerator: Accelerator, settings: FinetuneSettings) -> LoadedHost:
    loaded = load(directory, accelerator.device, settings.dtype)
    # not the model's own dtype, which is that of its first weight: InstructBLIP's is float32 in every checkpoint
    halves = sum(p.numel() for p in loaded.model.parameters() if p.dtype == torch.float16)
    if halves and settings.dtype == "auto":
        accelerator.print(f"{halves:,} weights are float16, in which gradients overflow; trained in float32")
        loaded.model.float()
    return loaded


def _train(
    accelerator: Accelerator,
    settings: FinetuneSettings,
    peft_model: Any,
    loaded: LoadedHost,
    questions: Sequence[TrainingQuestion],
    images: Images,
    texts: Texts,
    out: Path,
) -> None:
    optimizer, peaks = _optimizer(peft_model, loaded, settings)
    wrapped, prepared = accelerator.prepare(peft_model, optimizer)
    done, total, log = 0, total_steps(settings, len(questions)), out / "metrics.jsonl"
    if newest := newest_checkpoint(out / CHECKPOINTS):
        done = load_checkpoint(newest, peft_model, optimizer)["step"]
        accelerator.print(f"resuming after step {done}")
    if accelerator.is_main_process:
        cut_log(log, done)
    wrapped.train()
    bar = tqdm(total=total, initial=done, desc="fine-tune", disable=not accelerator.is_main_process)
    wrong = no_step(accelerator.device)
    for step, epoch, batch in _batches(settings, len(questions), done, total):
        # for LoRA's dropout: a resumed run draws in each step what an uninterrupted run draws
        torch.manual_seed((settings.seed * 1_000_003 + step) * 4099 + accelerator.process_index)
        factor = learning_rate_factor(step, total, settings.warmup)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        share = [questions[i] for i in process_share(batch, accelerator.process_index, accelerator.num_processes)]
        loss, correct = _step(accelerator, wrapped, loaded, share, images, texts)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_([p for p in peft_model.parameters() if p.requires_grad], settings.clip_grad)
        # gradients of fp16 overflow now and then, and its scaler leaves out such a step
        wrong = note_step(wrong, step, loss, None if accelerator.scaler else norm)
        prepared.step()
        prepared.zero_grad()
        done = step + 1
        reports, saves = (done % n == 0 or done == total for n in (settings.log_every, settings.checkpoint_every))
        if reports or saves:
            stop_if_not_finite(
                wrong,
                out,
                lambda at: [str(questions[i].image) for i in next(_batches(settings, len(questions), at, total))[2]],
                accelerator.is_main_process,
            )
        if reports:
            mean = accelerator.reduce(torch.stack([loss.detach(), correct]), reduction="mean").tolist()
            values = {
                "step": done,
                "epoch": epoch,
                "loss": mean[0],
                "accuracy": mean[1],
                "learning_rate_factor": factor,
            }
            bar.set_postfix(loss=f"{mean[0]:.3f}", accuracy=f"{mean[1]:.2f}")
            if accelerator.is_main_process:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(values) + "\n")
        bar.update()
        if saves and done < total:
            if accelerator.is_main_process:
                save_checkpoint(out / CHECKPOINTS, done, peft_model, optimizer, {})
            accelerator.wait_for_everyone()
    bar.close()


def _step(
    accelerator: Accelerator,
    model: Any,
    loaded: LoadedHost,
    share: list[TrainingQuestion],
    images: Images,
    texts: Texts,
) -> tuple[Tensor, Tensor]:
    """Loss, and the share of questions whose most probable token is the right letter."""
    inputs = {key: value.to(accelerator.device) for key, value in texts.batch(share).items()}
    keep = texts.answer_length + 1
    options = forward_options(loaded.model, loaded.host, inputs["attention_mask"], keep)
    inputs |= images.batch([q.image for q in share])
    output = model(**inputs, **options)
    answered = inputs.get("decoder_input_ids", inputs["input_ids"])
    logits, answers = output.logits[:, -keep:], answered[:, -texts.answer_length :]
    correct = (logits[:, 0].argmax(-1) == answers[:, 0]).float().mean()
    return answer_loss(logits, answers), correct


def _optimizer(
    peft_model: Any, loaded: LoadedHost, settings: FinetuneSettings
) -> tuple[torch.optim.Optimizer, list[float]]:
    connector = connector_parameters(peft_model, loaded.host)
    lora = [p for n, p in peft_model.named_parameters() if p.requires_grad and n not in connector]
    groups = [{"params": list(connector.values())}, {"params": lora}]
    rates = [settings.connector_learning_rate, settings.learning_rate]
    kept = [(group, rate) for group, rate in zip(groups, rates, strict=True) if group["params"]]
    optimizer = torch.optim.AdamW([group for group, _ in kept], weight_decay=settings.weight_decay)
    return optimizer, [rate for _, rate in kept]


def _batches(settings: FinetuneSettings, count: int, done: int, total: int) -> Iterator[tuple[int, int, list[int]]]:
    """Step, epoch and question indices of every global batch from step `done` on; the order depends on seed and epoch alone."""
    per_epoch = count // settings.batch_size
    for epoch in range(done // per_epoch, math.ceil(total / per_epoch)):
        first = done % per_epoch if epoch == done // per_epoch else 0
        batches = global_batches(count, settings.batch_size, settings.seed, epoch, first)
        for step, batch in enumerate(batches, start=epoch * per_epoch + first):
            if step < total:
                yield step, epoch, batch


def _write_result(
    out: Path, run: dict[str, Any], peft_model: Any, loaded: LoadedHost, letters: tuple[int, ...]
) -> None:
    """Write adapter and connector, then the record that marks the run as finished."""
    adapter = out / ".adapter"
    with atomic_path(adapter) as temporary:
        save_trained(peft_model, temporary, run["base"])
    for path in adapter.iterdir():
        path.replace(out / path.name)
    adapter.rmdir()
    connector = connector_parameters(peft_model, loaded.host)
    lora = [p.numel() for n, p in peft_model.named_parameters() if p.requires_grad and n not in connector]
    trained = {"language_model": sum(lora), "connector": sum(p.numel() for p in connector.values())}
    facts = [
        f"base: {run['base']}",
        f"trained on {run['questions']['count']} questions",
        f"everything else: {FINETUNE}",
    ]
    write_card(out, f"{loaded.host.title}, fine-tuned on four-option questions", facts)
    record = FinetuneRecord(
        schema="mgll.finetune/1",
        host=loaded.host.name,
        trained=trained,
        supervised=letters,
        provenance=provenance(),
        **run,
    )
    write_text(out / FINETUNE, record.model_dump_json(by_alias=True, indent=2) + "\n")
    (out / RUN).unlink()
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
