"""What fine-tuning and scoring a host costs on a GPU: memory, hours and bytes on disk, reckoned before anything is downloaded.

Counted where the checkpoint is on this machine: parameters, image tokens, layers and widths of the language model. Elsewhere the
parameters and tokens are what the caller states, and the language model is taken for a 7B one. Assumed in any case: the share of
the GPU's peak that is reached, and the length of a prompt.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from mllm_adapters.contract.host import Host
from mllm_adapters.graft.source import open_source
from mllm_adapters.settings import FinetuneSettings

GB = 1e9
PROMPT = 220  # tokens of conversation form, question, options and instruction
LAYERS, WIDTH = 32, 4096  # of a 7B language model
CONNECTOR = 30e6  # parameters of a large connector, where it can't be counted
TOWER = 0.3e9  # parameters of a ViT-L: what a graft writes beside links
OVERHEAD = 4 * GB  # CUDA's context, libraries, fragmentation
ADAMW = 16  # bytes of a trained parameter: float32 weight, gradient and two moments


@dataclass(frozen=True)
class HostCost:
    """Cost of one host.

    Attributes:
        parameters: number of parameters.
        image_tokens: number of tokens of an image.
        counted: whether both were counted in a checkpoint on this machine, or stated.
        memory: bytes of GPU memory at the peak of fine-tuning.
        operations: floating-point operations of fine-tuning and scoring of one cell.
        disk: bytes that a cell writes.
    """

    parameters: float
    image_tokens: int
    counted: bool
    memory: float
    operations: float
    disk: float


def host_cost(
    host: Host,
    checkpoint: Path | None,
    stated: tuple[float | None, int | None],
    settings: FinetuneSettings,
    questions: int,
    asked: int,
) -> HostCost:
    """Reckon one cell of a host.

    Args:
        host: the family.
        checkpoint: its folder, in a layout that needs no further parts; None where it is not here.
        stated: parameters and image tokens where it is not.
        settings: of fine-tuning.
        questions: number of questions to learn.
        asked: number of questions asked in scoring, over all images shown.

    Raises:
        ValueError: if the checkpoint is not here and nothing is stated.
    """
    layers, width, item = LAYERS, WIDTH, 2
    if checkpoint is not None:
        source = open_source(host, checkpoint)
        parameters = float(sum(math.prod(part.shape) for part in source.tensors.values()))
        item = max(1, round(sum(part.nbytes for part in source.tensors.values()) / parameters))
        tokens = host.features(source.files)
        text = source.files["config.json"].get("text_config", {})
        layers, width = text.get("num_hidden_layers", LAYERS), text.get("hidden_size", WIDTH)
    elif stated[0] is None or stated[1] is None:
        raise ValueError(
            f"{host.title} is not on this machine: state its `parameters` and `image_tokens` in the configuration, or download it"
        )
    else:
        parameters, tokens = float(stated[0]), stated[1]
    length, steps = PROMPT + tokens, settings.steps or settings.epochs * (questions // settings.batch_size)
    lora = settings.rank * 19 * width * layers  # inputs and outputs of the seven maps of a layer of LLaMA
    trained = lora + min(CONNECTOR, parameters / 10)
    states = settings.batch_size * length * width * item
    kept = layers * states + 17 * states if settings.gradient_checkpointing else layers * 17 * states
    # frozen weights have no gradient: one pass ahead, one back, and one more ahead where activations are computed again
    passes = 3 if settings.gradient_checkpointing else 2
    learning = 2 * passes * parameters * steps * settings.batch_size * length
    return HostCost(
        parameters=parameters,
        image_tokens=tokens,
        counted=checkpoint is not None,
        memory=item * parameters + ADAMW * trained + kept + OVERHEAD,
        operations=learning + 2 * parameters * asked * length,
        disk=item * min(TOWER, parameters / 10) + 3 * 4 * trained + 4000 * asked,
    )
