"""What fine-tuning and scoring a host costs on a GPU: memory, hours and bytes on disk, reckoned before anything is downloaded.

python -m mllm_adapters.host_cost --model llava --parameters 7.06e9 --image_tokens 576 --gpus 8

prints the memory by ZeRO stage, by DeepSpeed's own estimators (the extra `deepspeed`).

Counted where the checkpoint is on this machine: parameters, image tokens, layers and widths of the language model. Elsewhere the
parameters and tokens are what the caller states, and the language model is taken for a 7B one. Assumed in any case: the share of
the GPU's peak that is reached, and the length of a prompt.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from mgll.ending import ends_in_one_line
from mgll.flags import CommandParser
from mllm_adapters.contract.host import Host
from mllm_adapters.graft.source import open_source
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.settings import FinetuneSettings

GB = 1e9
PROMPT = 220  # tokens of conversation form, question, options and instruction
LAYERS, WIDTH = 32, 4096  # of a 7B language model
CONNECTOR = 30e6  # parameters of a large connector, where it can't be counted
TOWER = 0.3e9  # parameters of a ViT-L: what a graft writes beside links
OVERHEAD = 4 * GB  # CUDA's context, libraries, fragmentation
ADAMW = 16  # bytes of a trained parameter: float32 weight, gradient and two moments
VOCABULARY = 152_000  # of the largest, Qwen's; embeddings are the largest layer that ZeRO-3 gathers
#: Stage of ZeRO, and whether the CPU's memory is used: the launches of docs/scale.md, of which 0 is plain DDP.
ZERO = ((0, False), (2, False), (2, True), (3, False), (3, True))


@dataclass(frozen=True)
class HostCost:
    """Cost of one host.

    Attributes:
        parameters: number of parameters.
        image_tokens: number of tokens of an image.
        counted: whether both were counted in a checkpoint on this machine, or stated.
        trained: number of parameters that are trained.
        item: bytes of a frozen parameter.
        largest: number of parameters of the largest layer.
        activations: bytes that the backward pass needs, for all questions of a step.
        operations: floating-point operations of fine-tuning and scoring of one cell.
        disk: bytes that a cell writes.
    """

    parameters: float
    image_tokens: int
    counted: bool
    trained: float
    item: int
    largest: float
    activations: float
    operations: float
    disk: float

    @property
    def memory(self) -> float:
        """Bytes of GPU memory at the peak of fine-tuning in one process."""
        return self.item * self.parameters + ADAMW * self.trained + self.activations + OVERHEAD


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
    layers, width, item, largest = LAYERS, WIDTH, 2, float(VOCABULARY * WIDTH)
    if checkpoint is not None:
        source = open_source(host, checkpoint)
        parameters = float(sum(math.prod(part.shape) for part in source.tensors.values()))
        item = max(1, round(sum(part.nbytes for part in source.tensors.values()) / parameters))
        largest = float(max(math.prod(part.shape) for part in source.tensors.values()))
        tokens = host.features(source.files)
        text = source.files["config.json"].get("text_config", {})
        layers, width = text.get("num_hidden_layers", LAYERS), text.get("hidden_size", WIDTH)
    elif stated[0] is None or stated[1] is None:
        raise ValueError(
            f"{host.title} is not on this machine: state its `parameters` and `image_tokens`, or download it"
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
        trained=trained,
        item=item,
        largest=largest,
        activations=kept,
        operations=learning + 2 * parameters * asked * length,
        disk=item * min(TOWER, parameters / 10) + 3 * 4 * trained + 4000 * asked,
    )


def zero_memory(cost: HostCost, gpus: int, stage: int, offload: bool) -> tuple[float, float]:
    """Bytes of GPU memory of each process, and of the machine's memory, at the peak of fine-tuning on one machine.

    What is trained is DeepSpeed's estimate. Frozen weights, which its estimators do not know, are whole on each GPU under DDP and
    ZeRO-2, split under ZeRO-3, and in the machine's memory where ZeRO-3 offloads.

    Args:
        cost: of the host.
        gpus: number of GPUs, which share the questions of a step.
        stage: 0 (DDP), 2 or 3.
        offload: keep the optimiser, under ZeRO-3 the weights too, in the machine's memory.

    Raises:
        ValueError: if DeepSpeed is not installed.
    """
    frozen, machine = cost.item * cost.parameters, 0.0  # PEFT keeps the old connector beside the trained one
    if stage == 0:
        states = ADAMW * cost.trained
    else:
        try:  # optional, from the extra `deepspeed`
            from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
            from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2
        except ImportError:
            raise ValueError("its estimators come with DeepSpeed: pip install 'mgll-graft[deepspeed]'") from None
        if stage == 2:
            machine, states = zero2(cost.trained, gpus, cpu_offload=offload)
        else:
            machine, states, _ = zero3(
                cost.trained, cost.largest, gpus, cpu_offload=offload, cpu_offload_params=offload
            )
            machine += frozen if offload else 0
            frozen = 0 if offload else frozen / gpus
    return frozen + states + cost.activations / gpus + OVERHEAD, machine


@ends_in_one_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 on success and 1 after an error that was explained."""
    parser = CommandParser(prog="python -m mllm_adapters.host_cost", description=__doc__)
    parser.add_argument("--model", required=True, choices=list(HOSTS), help="the host's family")
    parser.add_argument("--checkpoint", type=Path, help="its folder, in which everything is counted")
    parser.add_argument("--parameters", type=float, help="number of parameters, where the checkpoint is not here")
    parser.add_argument("--image-tokens", type=int, help="number of tokens of an image, where it is not here")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of the machine (default: 8)")
    parser.add_argument("--rank", type=int, default=FinetuneSettings.rank, help="LoRA's rank")
    parser.add_argument(
        "--batch-size", type=int, default=FinetuneSettings.batch_size, help="questions a step, on all GPUs"
    )
    options = parser.parse_args(arguments)
    if min(options.gpus, options.batch_size) < 1 or options.rank < 0:
        raise ValueError("--gpus and --batch-size are at least 1, --rank at least 0")
    settings = FinetuneSettings(rank=options.rank, batch_size=options.batch_size, steps=1, gradient_checkpointing=True)
    host = get_host(options.model)
    found = host_cost(host, options.checkpoint, (options.parameters, options.image_tokens), settings, 1, 1)
    how = "counted" if found.counted else "stated, in a language model of 32 layers of 4,096"
    print(f"{host.title}: {found.parameters / 1e9:.2f} B parameters, {found.image_tokens} image tokens ({how})")
    print(f"LoRA of rank {options.rank} and connector: {found.trained / 1e6:.0f} M parameters are trained")
    print("reckoned, not measured: bf16, gradient checkpointing, tower frozen")
    print(f"{'ZeRO':>10}  offload  GB on each of {options.gpus} GPUs  GB of the machine")
    for stage, offload in ZERO:
        gpu, machine = (size / GB for size in zero_memory(found, options.gpus, stage, offload))
        print(
            f"{stage or '0 (DDP)':>10}  {'yes' if offload else 'no':>7}  {gpu:>{17 + len(str(options.gpus))}.1f}  {machine:>17.1f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
