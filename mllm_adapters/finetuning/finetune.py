"""Fine-tune a host or a graft on four-option questions: LoRA on its language model, and the connector in full.

The tower is frozen unless the settings say otherwise. The loss is taken at the answer letter (and the end of sequence, where the
host closes an answer with it); of captions and conversations it is taken at the whole replies.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType

from mgll.bounds import check_bounds
from mgll.formats import FormatError
from mgll.images.preprocessing import open_image
from mgll.provenance import provenance
from mgll.run_folder import claim_folder, locked, read_run
from mgll.training.distributed import settle_accumulation, splits_weights, start_accelerator
from mgll.training.precision import float32_products
from mllm_adapters.checkpoints.tensors import read_checkpoint
from mllm_adapters.contract.finetune_record import FINETUNE
from mllm_adapters.contract.host import LoadedHost
from mllm_adapters.finetuning.alignment import align_connector
from mllm_adapters.finetuning.augmentation import PLAIN, refuse_contradictions
from mllm_adapters.finetuning.forward import forward
from mllm_adapters.finetuning.held_out import hold_out
from mllm_adapters.finetuning.identity import describe, image_hashes, is_finished
from mllm_adapters.finetuning.images import Images, Preparation
from mllm_adapters.finetuning.loader import Examples
from mllm_adapters.finetuning.loop import Training, is_begun, train
from mllm_adapters.finetuning.mixture import Mixture, mixture
from mllm_adapters.finetuning.result import RUN, write_result
from mllm_adapters.finetuning.texts import Example, Texts, single_turns
from mllm_adapters.loading.device_map import refuse_several
from mllm_adapters.loading.load import host_in, load
from mllm_adapters.loading.lora import add_lora, keep_in_float32, start_from
from mllm_adapters.loading.precision import settle_dtype
from mllm_adapters.loading.quantisation import refuse_quantisation
from mllm_adapters.loading.tower_parts import choose_tower_parameters
from mllm_adapters.settings import (
    MAY_CHANGE,
    Conversation,
    FinetuneSettings,
    TrainingQuestion,
    check_trained_parts,
)

ALIGNED = "aligned"


@dataclass(frozen=True)
class Data:
    """What a run learns.

    Attributes:
        questions: examples that epochs count: questions, or in the stage before them captions.
        chats: conversations that are mixed in.
        held_out: questions that validate the run.
        captions: conversations of the stage before the questions.
    """

    questions: Sequence[Example]
    chats: Sequence[Conversation] = ()
    held_out: Sequence[TrainingQuestion] = ()
    captions: Sequence[Conversation] = ()

    @property
    def examples(self) -> list[Example]:
        """All of this stage, in the order in which they are numbered."""
        return [*self.questions, *self.chats, *self.held_out]


@dataclass(frozen=True)
class _Run:
    """One stage of a run, checked and described; `dtype` is what `settings.dtype` became."""

    accelerator: Accelerator
    directory: Path
    out: Path
    settings: FinetuneSettings
    data: Data
    order: Mixture
    hashes: Mapping[Path, str]
    made_of: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "auto"


def finetune(
    directory: str | os.PathLike[str],
    questions: Sequence[TrainingQuestion],
    out: str | os.PathLike[str],
    settings: FinetuneSettings | None = None,
    *,
    captions: Sequence[Conversation] = (),
    chats: Sequence[Conversation] = (),
    held_out: Sequence[TrainingQuestion] = (),
) -> Path:
    """Fine-tune a host or a graft; `mllm_adapters.load` (or PEFT) puts the trained weights in `out` onto the base again.

    A run that was killed goes on from its newest checkpoint when called again with the same arguments; on a CPU the result is the
    same bit for bit as without the interruption. A finished run is left as it is. Under a launcher all processes call this
    function, with DistributedDataParallel, DeepSpeed ZeRO of any stage, or FSDP2; what is written does not depend on which.

    Args:
        directory: a host or a graft.
        questions: what to learn.
        out: folder of the run.
        settings: the defaults when None.
        captions: what `align_epochs` goes through before the questions, to train the connector alone.
        chats: conversations of which `chat_share` of each batch is drawn.
        held_out: questions that validate the run, beside those that `FinetuneSettings.held_out` takes from `questions`.

    Returns:
        `out`.

    Raises:
        FormatError: if the base is damaged, or is itself a fine-tuned directory.
        HostError: if LoRA, the alignment or the tower's training does not fit the host.
        ImageError: if an image is missing or cannot be read.
        NotFiniteError: at the first loss or gradient that is NaN or infinite; `not_finite.txt` lists the batch.
        ValueError: if `out` holds another run, or another process trains there, the questions are fewer than a batch, an answer
            is no letter from A to D, a caption is missing for `align`, augmentation contradicts a text, settings are out of
            bounds or do not fit the launcher, or the batch does not divide by the processes and accumulated batches.
    """
    settings, out, directory = settings or FinetuneSettings(), Path(out), Path(directory)
    if (directory / FINETUNE).is_file():
        raise FormatError(directory, None, "is a fine-tuned directory already; name its base")
    check_bounds(settings)
    check_trained_parts(settings)
    accelerator = start_accelerator(
        # some hosts have weights in their connector that not every batch reaches
        [DistributedDataParallelKwargs(find_unused_parameters=True)],
        mixed_precision=settings.mixed_precision,
        log_with=list(settings.trackers) or None,
        project_dir=str(out),
    )
    accumulation = settle_accumulation(accelerator, settings.gradient_accumulation_steps)
    _check_launch(settings, accelerator, accumulation)
    trained_on, split_off = hold_out(questions, settings.held_out, settings.seed)
    host = host_in(directory)
    data = Data(trained_on, single_turns(host, chats), [*split_off, *held_out], single_turns(host, captions))
    order = _check_data(settings, data)
    hashes = image_hashes([example.image for example in [*data.examples, *captions]])
    run = _Run(accelerator, directory, out, settings, data, order, hashes)
    run = replace(run, made_of=describe(directory, out, settings, hashes, _named(data)))
    if split_off:
        patients = len({q.group or str(q.image) for q in split_off})
        accelerator.print(
            f"{len(split_off)} questions of {patients} patients are held out, {len(trained_on)} trained on"
        )
    tf32 = settings.dtype != "float32"
    with locked(out, by_this_process=accelerator.is_main_process), float32_products(tf32):
        return _finetune(run, accumulation)


def _finetune(run: _Run, accumulation: int) -> Path:
    """Fine-tune with checked settings, in a folder that no other run writes into."""
    accelerator, settings, out = run.accelerator, run.settings, run.out
    if is_finished(out, run.made_of):
        accelerator.print(f"{out} holds this very run, finished")
        return out
    begun = is_begun(out)
    run = replace(run, dtype=_dtype(run, begun))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        may_change = {name: getattr(settings, name) for name in MAY_CHANGE}
        beside = {"provenance": provenance(), "dtype": run.dtype, "may_change": may_change}
        claim_folder(out, RUN, run.made_of, begun, "another run", beside)
    if settings.align_epochs and not begun:
        _finetune(_alignment_stage(run), accumulation)
        accelerator.free_memory()
    # what is split afterwards might not fit on one device as a whole
    device = "cpu" if splits_weights(accelerator) else accelerator.device
    loaded = load(
        run.directory, device, run.dtype, quantize=settings.quantize, device_map=settings.device_map, tuned=True
    )
    torch.manual_seed(settings.seed)
    model = add_lora(loaded.model, loaded.host, settings)
    if settings.align_epochs and not begun:
        start_from(model, loaded.host, out / ALIGNED)
    if settings.gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loaded.model.enable_input_require_grads()
    texts = Texts(loaded, settings.max_tokens)
    preparation = Preparation(loaded, texts)
    examples = Examples(run.data.examples, run.hashes, preparation, settings)
    images = _images(run, loaded, preparation)
    _train_tower(run, model, loaded, examples, images)
    if settings.align and not settings.align_epochs and not begun:
        explained = _align(loaded, run.data.questions, examples, images)
        accelerator.print(
            f"connector aligned with captions: {explained:.1%} of their variance explained on images left out"
        )
    if settings.trackers:
        accelerator.init_trackers("mgll-finetune")
    training = Training(accelerator, accumulation, settings, model, loaded, examples, run.order, images, out)
    trained = train(training)
    images.close()
    if accelerator.is_main_process:
        write_result(out, run.made_of, model, loaded, trained, texts.letters(_first_question(run.data)))
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # `end_training` would end the processes' group too, and with it the next run
        tracker.finish()
    return out


def _alignment_stage(run: _Run) -> _Run:
    """The stage before the questions: the connector alone learns captions, in a folder of its own."""
    settings = replace(
        run.settings,
        rank=0,
        tower="frozen",
        epochs=run.settings.align_epochs,
        steps=None,
        align_epochs=0,
        chat_share=0.0,
        held_out=0.0,
        trackers=(),
    )
    out, data = run.out / ALIGNED, Data(run.data.captions)
    made_of = describe(run.directory, out, settings, run.hashes, _named(data))
    order = mixture(settings, len(data.questions), 0)
    return replace(run, out=out, settings=settings, data=data, order=order, made_of=made_of)


def _named(data: Data) -> dict[str, Sequence[Example]]:
    parts = {"questions": data.questions, "chats": data.chats, "held_out": data.held_out, "captions": data.captions}
    return {name: part for name, part in parts.items() if part or name == "questions"}


def _check_launch(settings: FinetuneSettings, accelerator: Accelerator, accumulation: int) -> None:
    """Raise `ValueError` unless the settings fit what the launcher started."""
    processes, split = accelerator.num_processes, splits_weights(accelerator)
    if settings.batch_size % (processes * accumulation):
        by = f"{processes} processes" + (f" times {accumulation} accumulated batches" if accumulation > 1 else "")
        raise ValueError(f"batch_size {settings.batch_size} does not divide by {by}")
    if split == "FSDP" and not accelerator.is_fsdp2:
        raise ValueError("FSDP1 cannot train LoRA beside frozen weights; give --fsdp_version 2 to the launcher")
    if settings.mixed_precision == "fp16" and split:
        raise ValueError(f"under {split} mixed_precision is `no` or `bf16`")
    if settings.dtype == "float16" and (split or accelerator.distributed_type == DistributedType.DEEPSPEED):
        raise ValueError(f"under {split or 'DeepSpeed'} dtype is `auto`, `float32` or `bfloat16`")
    refuse_quantisation(settings.quantize, accelerator.device.type, split)
    if settings.device_map:
        refuse_several(processes)


def _check_data(settings: FinetuneSettings, data: Data) -> Mixture:
    """Raise `ValueError` unless the examples fit the settings."""
    questions = [example for example in data.examples if isinstance(example, TrainingQuestion)]
    wrong = sorted({q.letter for q in questions} - set("ABCD"))
    if wrong:
        raise ValueError(f"answers must be one of ABCD, found {wrong[:4]}")
    if settings.align and not all(q.caption for q in data.questions if isinstance(q, TrainingQuestion)):
        raise ValueError("align needs the right answer in words; give every question a caption")
    if bool(settings.align_epochs) != bool(data.captions):
        raise ValueError(
            f"align_epochs is {settings.align_epochs} and there are {len(data.captions)} captions; give both, or neither"
        )
    if settings.align_epochs:
        mixture(replace(settings, chat_share=0.0), len(data.captions), 0)
    texts = [text for q in questions for text in (q.question, q.caption)]
    replies = [text for c in (*data.chats, *data.captions) for turn in c.turns for text in turn]
    refuse_contradictions(settings, [*texts, *replies])
    return mixture(settings, len(data.questions), len(data.chats))


def _dtype(run: _Run, begun: bool) -> str:
    """The dtype of the weights that are not trained; a resumed run keeps the one that it began with, wherever it goes on."""
    if begun and (kept := read_run(run.out / RUN, "another run").get("dtype")):
        return str(kept)
    device = run.accelerator.device
    dtype, note = settle_dtype(run.settings.dtype, read_checkpoint(run.directory), device, tuned=True)
    if note:
        run.accelerator.print(note)
    return dtype


def _images(run: _Run, loaded: LoadedHost, preparation: Preparation) -> Images:
    shown = {example.image for example in run.data.examples}
    example = preparation.pixels(open_image(run.data.questions[0].image))
    distinct, accelerator = len(shown) * (run.settings.views or 1), run.accelerator
    return Images(loaded, accelerator.device, example, distinct, run.settings, accelerator.num_processes)


def _train_tower(run: _Run, model: Any, loaded: LoadedHost, examples: Examples, images: Images) -> None:
    """Let weights of the tower itself learn, where the settings say so, and tell how many do."""
    if run.settings.tower not in ("last", "full"):
        return
    batch = examples[[examples.view(0, PLAIN, images.size)]]
    device = next(loaded.model.parameters()).device
    chosen = choose_tower_parameters(
        model,
        loaded.host,
        run.settings.tower_layers if run.settings.tower == "last" else None,
        lambda: forward(model, loaded, batch, images, device).losses.mean(),
    )
    if any(parameter.dtype != torch.float32 for parameter in chosen.values()):
        keep_in_float32(loaded.model.get_submodule(loaded.host.tower))
    count = sum(parameter.numel() for parameter in chosen.values())
    run.accelerator.print(f"{count:,} weights of the tower are trained, in {len(chosen)} tensors")


def _align(loaded: LoadedHost, questions: Sequence[Example], examples: Examples, images: Images) -> float:
    """Fit the connector in closed form to the captions of the questions' images; see `align_connector`."""
    pairs: dict[tuple[Path, str], int] = {}
    for index, example in enumerate(questions):
        caption = example.caption if isinstance(example, TrainingQuestion) else example.turns[0][1]
        pairs.setdefault((example.image, caption), index)
    indices, device = list(pairs.values()), next(loaded.model.parameters()).device
    batches = []
    for start in range(0, len(indices), 32):
        views = [examples.view(index, PLAIN, images.size) for index in indices[start : start + 32]]
        batches.append(images.batch(examples[views].images, device))
    return align_connector(loaded, [caption for _, caption in pairs], batches)


def _first_question(data: Data) -> str:
    first = data.questions[0]
    return first.question if isinstance(first, TrainingQuestion) else first.turns[0][0]
