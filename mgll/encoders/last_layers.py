"""Training the last layers of an encoder only: what comes before them keeps its weights and costs no backward pass."""

from collections.abc import Sequence
from itertools import takewhile

from torch import nn
from transformers import PreTrainedModel


def train_last(model: PreTrainedModel, count: int, what: str) -> None:
    """Switch training off for all parameters that come before the last `count` layers.

    Args:
        model: an encoder of transformers or a trunk of timm, of which a stage of a convolutional one counts as a layer.
        count: number of layers that are trained, with what lies behind them: norms and pooling.
        what: name of the setting, for the error.

    Raises:
        ValueError: if the encoder has fewer layers.
    """
    layers = layers_of(model)
    if not 1 <= count <= len(layers):
        raise ValueError(f"{what} {count}: the encoder has {len(layers)} layers; give 1 to {len(layers)}, or `full`")
    first = next(layers[-count].parameters())
    for parameter in takewhile(lambda parameter: parameter is not first, model.parameters()):
        parameter.requires_grad_(False)


def layers_of(model: PreTrainedModel) -> Sequence[nn.Module]:
    """The blocks of a ViT, or the stages of a convolutional trunk of timm, in their order; empty where none are known."""
    trunk = getattr(model, "timm_model", None)
    if trunk is not None:
        return list(getattr(trunk, "blocks", getattr(trunk, "stages", ())))
    depth = getattr(model.config, "num_hidden_layers", 0)
    stacks = (m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
    return list(next(stacks, ()))


def block_numbers(names: Sequence[str], blocks: Sequence[str]) -> dict[str, int]:
    """The number of the block of every parameter: -1 in front of the blocks, their number behind them.

    Args:
        names: names of parameters, in the model's own order.
        blocks: names of the blocks.
    """
    numbers, reached = {}, -1
    for name in names:
        own = next((number for number, block in enumerate(blocks) if name.startswith(f"{block}.")), None)
        numbers[name] = len(blocks) if own is None and reached >= 0 else -1 if own is None else own
        reached = max(reached, numbers[name])
    return numbers
