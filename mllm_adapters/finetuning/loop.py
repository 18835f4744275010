"""The training loop of fine-tuning, the same under every form of parallelism."""

import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from mgll.files import atomic_path
from mgll.training.checkpoint import checkpoint_state, load_checkpoint, newest_checkpoint, save_checkpoint
from mgll.training.distributed import configure_deepspeed, configure_fsdp
from mgll.training.not_finite import no_step, note_step, refuse_not_finite, stop_if_not_finite
from mgll.training.precision import attention_for
from mgll.training.split_weights import split_again, whole_weights
from mgll.training.steps import cut_log, learning_rate_factor, process_share
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.augmentation import view_of_epoch
from mllm_adapters.finetuning.forward import forward
from mllm_adapters.finetuning.held_out import validate
from mllm_adapters.finetuning.images import Images
from mllm_adapters.finetuning.loader import Examples, Prepared, View, prepared
from mllm_adapters.finetuning.mixture import Mixture
from mllm_adapters.finetuning.parameter_groups import adamw, set_learning_rates
from mllm_adapters.settings import FinetuneSettings

CHECKPOINTS = "checkpoints"
GIB = 2**30
#: What the loss is multiplied by under float16 at first; halved when gradients overflow, doubled after 2,000 steps without that.
START_SCALE = 2.0**10


@dataclass(frozen=True)
class Training:
    """All that a run is made of, ready to start.

    Attributes:
        accelerator: the processes.
        accumulation: number of batches of which each step adds up the gradients.
        settings: those of the run.
        model: the model with LoRA.
        loaded: the same without.
        examples: questions, then conversations, then the questions held out.
        order: which examples each step sees.
        images: makes image inputs.
        out: folder of the run.
    """

    accelerator: Accelerator
    accumulation: int
    settings: FinetuneSettings
    model: Any
    loaded: LoadedHost
    examples: Examples
    order: Mixture
    images: Images
    out: Path

    @property
    def total(self) -> int:
        """Number of steps."""
        return self.order.steps(self.settings)

    @property
    def micro_batch(self) -> int:
        """Number of examples that a process forwards at once."""
        return self.settings.batch_size // self.accelerator.num_processes // self.accumulation

    @property
    def held_out(self) -> int:
        """Index of the first question held out."""
        return self.order.questions + self.order.chats


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        tensors: whole trained weights by their names in the model; empty in all processes but the first.
        best: step, loss and accuracy of the validation whose weights these are; None where nothing was held out.
    """

    tensors: dict[str, Tensor]
    best: dict[str, float] | None


def train(run: Training) -> Trained:
    """Train from the newest checkpoint on. Collective: all processes must call it.

    Raises:
        NotFiniteError: at the first loss or gradient that is NaN or infinite; `not_finite.txt` lists the batch.
    """
    accelerator, settings, model, total = run.accelerator, run.settings, run.model, run.total
    folder, log, main = run.out / CHECKPOINTS, run.out / "metrics.jsonl", accelerator.is_main_process
    configure_deepspeed(
        accelerator, settings.batch_size, settings.clip_grad, settings.mixed_precision, run.accumulation
    )
    configure_fsdp(accelerator, model)
    if run.loaded.dtype == "float16" and not _scales_itself(accelerator):
        accelerator.scaler = torch.amp.GradScaler(accelerator.device.type, init_scale=START_SCALE)
    wrapped, prepared_optimizer = accelerator.prepare(model, adamw(model, run.loaded.host, settings))
    optimizer = prepared_optimizer.optimizer
    done, best = 0, None
    if newest := newest_checkpoint(folder):
        state = load_checkpoint(newest, model, optimizer)
        done, best = state["step"], state.get("best")
        if accelerator.scaler and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
        accelerator.print(f"resuming after step {done}")
    if main:
        cut_log(log, done)
    validates = len(run.examples.examples) > run.held_out
    wrapped.train()
    bar = tqdm(total=total, initial=done, desc="fine-tune", disable=not main)
    wrong, cut, left_out, speed = no_step(accelerator.device), 0, 0, _Speed(settings.batch_size, done)
    batches = prepared(run.examples, _views(run, done), settings)
    for step, epoch, _ in run.order.batches(done, total):
        factor = learning_rate_factor(step, total, settings.warmup)
        rates = set_learning_rates(prepared_optimizer.param_groups, factor)
        sums = torch.zeros(3, device=accelerator.device)
        for part in range(run.accumulation):
            # for LoRA's dropout: a resumed run draws in each step what an uninterrupted run draws
            place = part * accelerator.num_processes + accelerator.process_index
            torch.manual_seed((settings.seed * 1_000_003 + step) * 4099 + place)
            loss, values, was_cut, norm = _backward(run, wrapped, prepared_optimizer, next(batches))
            sums, cut = sums + values, cut + was_cut
            # gradients of fp16 overflow now and then, and its scaler leaves out such a step
            wrong = note_step(wrong, step, loss, None if accelerator.scaler else norm)
        left_out += prepared_optimizer.step_was_skipped
        done = step + 1
        reports, saves, asks = (
            done % n == 0 or done == total
            for n in (settings.log_every, settings.checkpoint_every, settings.validate_every)
        )
        if reports or saves or (asks and validates):
            stop_if_not_finite(wrong, run.out, lambda at: _images_of(run, at), main)
        values_now: dict[str, Any] = {}
        if asks and validates:
            found = validate(
                accelerator, wrapped, run.loaded, run.examples, run.held_out, run.images, settings, run.micro_batch
            )
            values_now = {"validation_loss": found.loss, "validation_accuracy": found.accuracy}
            if best is None or found.loss < best["loss"]:
                best = {"step": done, **asdict(found)}
                _keep_best(run, best)
        if reports or values_now:
            loss_sum, right, asked = accelerator.reduce(sums, reduction="sum").tolist()
            mean_loss, accuracy = loss_sum / run.accumulation / accelerator.num_processes, right / max(1, asked)
            values_now = {
                "step": done,
                "epoch": epoch,
                "loss": mean_loss,
                "accuracy": accuracy,
                **values_now,
                "learning_rate_factor": factor,
                "learning_rate": rates,
                "gradient_norm": None if norm is None or not math.isfinite(norm) else float(norm),
                **speed.at(done, accelerator.device),
            }
            bar.set_postfix(loss=f"{mean_loss:.3f}", accuracy=f"{accuracy:.2f}")
            accelerator.log({k: v for k, v in values_now.items() if isinstance(v, int | float)}, step=done)
            if main:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(values_now) + "\n")
        bar.update()
        if saves and done < total:
            kept = {"best": best, "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None}
            save_checkpoint(folder, done, model, optimizer, kept, write=main)
            if main:
                _drop_but(folder, best)
            accelerator.wait_for_everyone()
    bar.close()
    if left_out:
        accelerator.print(f"{left_out} steps were left out: their gradients overflowed in float16")
    if cut:
        print(f"process {accelerator.process_index}: {cut} conversations were cut at {settings.max_tokens} tokens")
    return _result(run, best)


def _backward(
    run: Training, wrapped: Any, optimizer: Any, batch: Prepared
) -> tuple[Tensor, Tensor, int, Tensor | float | None]:
    """One forward and backward pass, and with the last of a step the update.

    Returns:
        The loss; loss, right answers and questions; how many conversations were cut; the norm of the gradient after an update.
    """
    accelerator, norm = run.accelerator, None
    half = accelerator.mixed_precision != "no" or run.loaded.dtype != "float32"
    tokens = batch.texts.inputs["attention_mask"].shape[1]
    with accelerator.accumulate(wrapped), attention_for(accelerator.device, half, tokens):
        outcome = forward(wrapped, run.loaded, batch, run.images, accelerator.device)
        loss = outcome.losses.mean()
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            if accelerator.scaler and not _scales_itself(accelerator):
                accelerator.scaler.unscale_(optimizer.optimizer)
            trained = [p for p in run.model.parameters() if p.requires_grad]
            norm = accelerator.clip_grad_norm_(trained, run.settings.clip_grad)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        optimizer.step()
        optimizer.zero_grad()
    values = torch.stack([loss.detach(), outcome.right, outcome.questions.sum()])
    return loss, values, batch.texts.cut, norm


def _scales_itself(accelerator: Accelerator) -> bool:
    """Whether accelerate scales the loss, and takes that out of the gradients before it clips them."""
    return bool(accelerator.native_amp and accelerator.mixed_precision == "fp16")


def _views(run: Training, done: int) -> Iterator[list[View]]:
    """This process's batches from step `done` on, as views, each so many examples as are forwarded at once."""
    accelerator = run.accelerator
    for _, epoch, batch in run.order.batches(done, run.total):
        number = view_of_epoch(run.settings, epoch)
        share = process_share(batch, accelerator.process_index, accelerator.num_processes)
        for start in range(0, len(share), run.micro_batch):
            own = share[start : start + run.micro_batch]
            yield [run.examples.view(index, number, run.images.size) for index in own]


def _images_of(run: Training, step: int) -> list[str]:
    batch = next(run.order.batches(step, run.total))[2]
    return [str(run.examples.examples[index].image) for index in batch]


def _trained_weights(model: Any) -> dict[str, Tensor]:
    """The trained parameters by name, of which this process may hold a part."""
    split_again(model)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _best_path(folder: Path, best: dict[str, float]) -> Path:
    return folder / f"best-{best['step']:08.0f}.safetensors"


def _keep_best(run: Training, best: dict[str, float]) -> None:
    main = run.accelerator.is_main_process
    tensors = whole_weights(_trained_weights(run.model), main)
    if main:
        with atomic_path(_best_path(run.out / CHECKPOINTS, best)) as temporary:
            save_file(tensors, temporary)


def _drop_but(folder: Path, best: dict[str, float] | None) -> None:
    """Remove the weights of all validations but the best, once a checkpoint says which that is."""
    for path in folder.glob("best-*.safetensors"):
        if best is None or path != _best_path(folder, best):
            path.unlink()


def _result(run: Training, best: dict[str, float] | None) -> Trained:
    main = run.accelerator.is_main_process
    if best is None:
        tensors = whole_weights(_trained_weights(run.model), main)
    else:
        tensors = load_file(_best_path(run.out / CHECKPOINTS, best)) if main else {}
    refuse_not_finite(tensors, "the trained weights")
    return Trained(tensors, best)


def is_begun(out: Path) -> bool:
    """Whether a folder holds a checkpoint to go on from."""
    newest = newest_checkpoint(out / CHECKPOINTS)
    return newest is not None and checkpoint_state(newest)["step"] > 0


class _Speed:
    """Questions per second since the last report, and the most memory that was taken."""

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size, self._time, self._step = batch_size, time.monotonic(), step

    def at(self, step: int, device: torch.device) -> dict[str, float]:
        now = time.monotonic()
        rate = round((step - self._step) * self._batch_size / max(now - self._time, 1e-9), 2)
        self._time, self._step = now, step
        if device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(device)
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {"questions_per_second": rate, "memory_gib": round(memory / GIB, 3)}
