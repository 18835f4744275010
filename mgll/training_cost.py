"""What a pretraining step costs in memory and time on a GPU, from shapes alone: no weight is made and no GPU is needed.

    python -m mgll.training_cost --encoder vit-large-14 --batch-size 4096 --processes 8 --chunk 64 --gradient-checkpointing true
    python -m mgll.training_cost --table true      # the table of docs/scale.md

Counted on PyTorch's fake tensors: parameters, floating-point operations (`FlopCounterMode`), and the bytes that the forward pass
keeps for the gradient (`saved_tensors_hooks`). Assumed, not counted: the GPU's peak, which share of it is used, what memory CUDA
takes for itself, how many unique texts a batch has and how long they are.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line

GB = 1e9
#: Peak of dense bf16 in NVIDIA's data sheets, in operations per second.
Gpu = Literal["A100", "H100"]
PEAKS: Mapping[Gpu, float] = {"A100": 312e12, "H100": 989e12}
BUCKET = 4 * 5e8  # bytes of DeepSpeed's default reduce_bucket_size


@dataclass(frozen=True)
class CostSettings:
    """A run whose cost is computed, and what is assumed about the machine.

    Attributes:
        encoder: name of an image encoder, as in pretraining.
        image_size: height and width of the images in pixels.
        pooling: pooling of the image encoder: `cls`, `mean` or `head`.
        feature_width: width of the space that images and texts share.
        text_layers: number of layers of the BERT that is trained as text encoder; 0 for a frozen text encoder.
        text_width: width of the text encoder.
        vocabulary: number of tokens that the text encoder knows (28,996: BERT cased, Bio_ClinicalBERT).
        unique_texts: largest number of unique texts in a batch; two per image where that is less. A data set of D diseases has no
            more than D per level.
        text_tokens: number of tokens of a text.
        batch_size: images per step over all processes.
        processes: number of processes, each with a GPU of its own.
        chunk: images, and texts, that a process encodes at once; None encodes its whole share at once.
        gradient_checkpointing: the encoders keep only the inputs of each layer and compute the rest again for the gradient.
        bf16: autocast to bfloat16; False computes in float32.
        zero2: DeepSpeed ZeRO-2 instead of DistributedDataParallel.
        images: images per epoch (the paper's 246,389).
        gpu: GPU whose peak is taken: `A100` or `H100`.
        utilisation: assumed share of the GPU's peak that is reached.
        overhead: assumed memory for CUDA's context, libraries, workspaces and fragmentation, in GB.
        table: print the table of docs/scale.md instead of the cost of one run.
    """

    encoder: str = "vit-large-14"
    image_size: int = 224
    pooling: str = "cls"
    feature_width: int = 768
    text_layers: int = 12
    text_width: int = 768
    vocabulary: int = 28_996
    unique_texts: int = 300
    text_tokens: int = 64
    batch_size: int = 32
    processes: int = 1
    chunk: int | None = None
    gradient_checkpointing: bool = False
    bf16: bool = True
    zero2: bool = False
    images: int = 246_389
    gpu: Gpu = "A100"
    utilisation: float = 0.4
    overhead: float = 4.0
    table: bool = False


@dataclass(frozen=True)
class EncoderCost:
    """What one input of an encoder costs.

    Attributes:
        parameters: number of trained parameters of the encoder.
        forward: floating-point operations of the forward pass.
        backward: floating-point operations of the backward pass, with what checkpointing computes again.
        kept: bytes that are kept for the backward pass, for each input.
        kept_once: bytes that are kept whatever the batch size: the weights' copies in bfloat16.
        layer: bytes of one layer's activations for each input, which checkpointing holds while it computes them again.
    """

    parameters: int = 0
    forward: int = 0
    backward: int = 0
    kept: int = 0
    kept_once: int = 0
    layer: int = 0


@dataclass(frozen=True)
class Cost:
    """What one step costs one process.

    Attributes:
        parameters: number of trained parameters.
        operations: floating-point operations.
        seconds: time, if the assumed share of the GPU's peak is reached.
        memory: bytes at the peak by what they hold.
        communicated: bytes that each GPU sends, and as many that it receives.
    """

    parameters: int
    operations: float
    seconds: float
    memory: dict[str, float]
    communicated: float

    @property
    def total(self) -> float:
        """Bytes of memory at the peak."""
        return sum(self.memory.values())


def image_encoder_cost(settings: CostSettings) -> EncoderCost:
    """What one image costs in the tower of these settings."""
    # here, because torch takes seconds to import
    import torch

    from mgll.encoders.vision_configs import encoder_config
    from mgll.tower.model import build_model, freeze_unused, image_feature

    size: int = settings.image_size
    pooling: Any = settings.pooling

    def build() -> Any:
        tower = build_model(encoder_config(settings.encoder, size))
        freeze_unused(tower, size, pooling)
        return tower

    return _encoder_cost(settings, build, lambda tower, n: image_feature(tower, torch.randn(n, 3, size, size), pooling))


def text_encoder_cost(settings: CostSettings) -> EncoderCost:
    """What one text costs in the BERT of these settings; 0 if it is frozen: its features are computed once, before training."""
    import torch
    from transformers import BertConfig, BertModel

    if not settings.text_layers:
        return EncoderCost()
    width, tokens = settings.text_width, settings.text_tokens
    config = BertConfig(
        vocab_size=settings.vocabulary, hidden_size=width, num_hidden_layers=settings.text_layers,
        num_attention_heads=max(1, width // 64), intermediate_size=4 * width,
        use_cache=False,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip

    def run(model: Any, n: int) -> Any:
        mask = torch.ones(n, 1, tokens, tokens, dtype=torch.bool)
        return model(input_ids=torch.zeros(n, tokens, dtype=torch.long), attention_mask=mask).last_hidden_state

    return _encoder_cost(settings, lambda: BertModel(config, add_pooling_layer=False), run)


def _encoder_cost(settings: CostSettings, build: Callable[[], Any], run: Callable[[Any, int], Any]) -> EncoderCost:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from mgll.training.model import keep_layer_inputs_only

    def forward(inputs: int) -> tuple[Any, int]:
        """The output for `inputs` inputs, and the bytes that are kept for the gradient."""
        with _kept(model) as kept, torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            output = run(model, inputs)
        return output, sum(kept.values())

    with FakeTensorMode():
        model = build().train()
        layers = getattr(model.config, "num_hidden_layers", 4)  # a convolutional trunk has four stages
        one, two = (forward(n)[1] for n in (1, 2))
        layer = (two - one) // layers
        if settings.gradient_checkpointing:
            keep_layer_inputs_only(model)
            one, two = (forward(n)[1] for n in (1, 2))
        with FlopCounterMode(display=False) as ahead:
            output, _ = forward(1)
        with FlopCounterMode(display=False) as back:
            output.sum().backward()
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return EncoderCost(
        trained, ahead.get_total_flops(), back.get_total_flops(), two - one, 2 * one - two, layer * settings.gradient_checkpointing
    )  # fmt: skip


@contextmanager
def _kept(model: Any) -> Iterator[dict[int, int]]:
    """Yield the bytes of every storage that is kept for the backward pass and is no parameter, by the storage's address."""
    import torch

    kept: dict[int, int] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def cost(settings: CostSettings, image: EncoderCost, text: EncoderCost) -> Cost:
    """What a step costs one process, from what one image and one text cost."""
    width, n = settings.feature_width, settings.processes
    texts = min(settings.unique_texts, 2 * settings.batch_size)
    own_images, own_texts = settings.batch_size / n, -(-texts // n)
    parameters = image.parameters + text.parameters
    at_once = min(settings.chunk or own_images, own_images), min(settings.chunk or own_texts, own_texts)
    encoded_again = settings.chunk is not None and settings.chunk < own_images
    operations = 6.0 * settings.batch_size * texts * width  # logits and their two gradients
    for encoder, count in ((image, own_images), (text, own_texts)):
        operations += count * (encoder.forward * (2 if encoded_again else 1) + encoder.backward)
    share = n if settings.zero2 else 1
    memory = {
        "weights, float32": 4.0 * parameters,
        "their gradients": 4.0 * parameters / share,
        "AdamW's two moments": 8.0 * parameters / share,
        "ZeRO-2's part of the weights": 4.0 * parameters / n * settings.zero2,
        "gradients on their way between GPUs": (min(BUCKET, 4.0 * parameters) if settings.zero2 else 4.0 * parameters)
        * (n > 1 or settings.zero2),
        "weights in bfloat16": float(image.kept_once + text.kept_once),
        "activations": at_once[0] * (image.kept + image.layer) + at_once[1] * (text.kept + text.layer),
        "pixels and features": own_images * 12.0 * settings.image_size**2
        + 16.0 * width * (settings.batch_size + texts),
        "assumed overhead": settings.overhead * GB,
    }
    seconds = operations / (PEAKS[settings.gpu] * settings.utilisation)
    sent = 2.0 * (n - 1) / n * 4 * parameters  # a ring's share of all gradients
    return Cost(parameters, operations, seconds, memory, sent)


def describe(settings: CostSettings) -> str:
    """The cost of these settings as text, one line per quantity."""
    found = cost(settings, image_encoder_cost(settings), text_encoder_cost(settings))
    lines = [f"{found.parameters / 1e6:,.0f} M parameters are trained (counted)"]
    lines += [f"{value / GB:8.1f} GB  {name}" for name, value in found.memory.items() if value]
    lines += [f"{found.total / GB:8.1f} GB  at the peak of each of {settings.processes} GPUs"]
    epoch = found.seconds * settings.images / settings.batch_size / 3600
    lines += [
        f"{found.operations / 1e12:8,.1f} TFLOP  a step and GPU (counted)",
        f"{found.seconds:8.2f} s   a step, {settings.batch_size / found.seconds:,.0f} images/s, {epoch:.2f} h an epoch of"
        f" {settings.images:,} images, if {settings.utilisation:.0%} of the peak of an {settings.gpu} is used (assumed)",
        f"{found.communicated / GB:8.1f} GB  sent and received by each GPU a step",
    ]
    return "\n".join(lines)


def table() -> str:
    """The Markdown table of docs/scale.md."""
    plain = CostSettings()
    forms: dict[str, dict[str, Any]] = {
        "bf16": {},
        "bf16, checkpointing": {"gradient_checkpointing": True},
        "bf16, chunk 64": {"chunk": 64},
        "bf16, checkpointing, chunk 256": {"gradient_checkpointing": True, "chunk": 256},
    }
    rows = ["| encoder | batch | GPUs | settings | GB a GPU | s a step, A100 / H100 | min an epoch, A100 / H100 |"]
    rows += ["|---|---|---|---|---|---|---|"]
    for encoder in ("vit-large-14", "vit-huge-14"):
        for form, changes in forms.items():
            settings = replace(plain, encoder=encoder, **changes)
            measured = image_encoder_cost(settings), text_encoder_cost(settings)
            for batch in (32, 4096):
                for processes in (1, 8):
                    own = replace(settings, batch_size=batch, processes=processes)
                    if not own.chunk or own.chunk < batch / processes:
                        rows.append(row(own, form, *measured))
    return "\n".join(rows)


def row(settings: CostSettings, form: str, image: EncoderCost, text: EncoderCost) -> str:
    """A row of the table of docs/scale.md: one encoder, batch size, number of GPUs and form, on every GPU of `PEAKS`."""
    each = [cost(replace(settings, gpu=gpu), image, text) for gpu in PEAKS]
    fits = "" if each[0].total <= 80 * GB else " (too much)"
    seconds = " / ".join(f"{one.seconds:.2g}" for one in each)
    minutes = " / ".join(f"{one.seconds * settings.images / settings.batch_size / 60:.1f}" for one in each)
    return (
        f"| {settings.encoder} | {settings.batch_size:,} | {settings.processes} | {form} |"
        f" {each[0].total / GB:,.0f}{fits} | {seconds} | {minutes} |"
    )


@ends_in_one_line
def main() -> None:
    """Parse the command line; print the cost of a run, or the table."""
    settings = parse_settings(CostSettings, __doc__ or "")
    print(table() if settings.table else describe(settings))


if __name__ == "__main__":
    sys.exit(main())
