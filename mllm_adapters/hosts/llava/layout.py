"""The checkpoint layout of LLaVA's own repository, in which LLaVA-Med and Mini-Gemini are published, read as transformers' LLaVA.

In that layout the whole model is a language model with a few more tensors under `model.`, its config.json is the language model's
with `mm_*` fields, the image has no token of its own, and the image processor is that of the tower, which is published elsewhere.
This module writes all of that out: names, configuration, an `<image>` token with its embedding, processor files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.images.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable, renamed
from mllm_adapters.checkpoints.tensors import Held, Joined, Part, Stored, read_tensor, rows, torch_dtype
from mllm_adapters.contract.terms import HostError
from mllm_adapters.hosts.llava.tower_part import TOWER
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.tokenizer_files import read_tokenizer, with_tokens

IMAGE, PAD = "<image>", "<pad>"
EMBEDDINGS = ("model.language_model.embed_tokens.weight", "lm_head.weight")
#: From the published names to those of transformers' LLaVA.
NAMES: NameTable = (
    (r"model\.vision_tower\.vision_tower\.(?:vision_model\.)?", TOWER),
    (r"model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"model\.(?=embed_tokens\.|layers\.|norm\.)", "model.language_model."),
    (r"lm_head\.", "lm_head."),
)
_RECOMPUTED = r".*(?:rotary_emb\.inv_freq|embeddings\.position_ids|image_newline)"


def rename(tensors: Mapping[str, Part], directory: Path, further: NameTable = ()) -> dict[str, Part]:
    """The tensors by the names of transformers' LLaVA; tables that are computed, not learnt, are left out.

    Args:
        tensors: the tensors by their published names.
        directory: the checkpoint, for the message.
        further: names of a relative's own modules, which are tried before LLaVA's.

    Raises:
        FormatError: if there are tensors that belong to no part of the model.
    """
    names = renamed(tensors, (*further, *NAMES), _RECOMPUTED, directory)
    return {new: tensors[name] for name, new in names.items()}


def vision_config(tensors: Mapping[str, Part], directory: Path) -> Json:
    """The CLIP tower's configuration, read off its tensors because the checkpoint only names the tower. CLIP's heads are 64 wide.

    Raises:
        FormatError: if there is no tower among the tensors.
    """
    if f"{TOWER}embeddings.class_embedding" not in tensors:
        raise FormatError(directory, None, "no vision tower in it (names like model.vision_tower.vision_tower.*)")
    width = tensors[f"{TOWER}embeddings.class_embedding"].shape[0]
    patch = tensors[f"{TOWER}embeddings.patch_embedding.weight"].shape[-1]
    grid = round((tensors[f"{TOWER}embeddings.position_embedding.weight"].shape[0] - 1) ** 0.5)
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": tensors[f"{TOWER}encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(
            {name.split(".")[4] for name in tensors if name.startswith(f"{TOWER}encoder.layers.")}
        ),
        "num_attention_heads": max(1, width // 64),
        "patch_size": patch,
        "image_size": grid * patch,
    }


def llava_config(old: Json, vision: Json, text_model_type: str) -> Json:
    """Turn the published config.json into that of transformers' LLaVA.

    Raises:
        HostError: if the connector is not LLaVA-1.5's.
    """
    # inside functions, because listing the hosts needs neither torch nor transformers
    from transformers import AutoConfig

    projector, select = old.get("mm_projector_type", "linear"), old.get("mm_vision_select_feature", "patch")
    if projector != "mlp2x_gelu":
        raise HostError(
            f"mm_projector_type is {projector!r}; only mlp2x_gelu, the two-layer MLP of LLaVA-1.5, is known here: take"
            " liuhaotian/llava-v1.5-7b or llava-hf/llava-1.5-7b-hf"
        )
    known = {*AutoConfig.for_model(text_model_type).to_dict(), "rope_theta", "rope_scaling"}
    training = ("architectures", "dtype", "use_cache")  # the last is off in checkpoints that were saved while training
    text = {key: value for key, value in old.items() if key in known and key not in training}
    grid = vision["image_size"] // vision["patch_size"]
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": old.get("dtype") or old.get("torch_dtype") or "float32",
        "text_config": text | {"model_type": text_model_type},
        "vision_config": vision,
        "image_seq_length": grid * grid + (select == "cls_patch"),
        "vision_feature_layer": old.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": "full" if select == "cls_patch" else "default",
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        **{key: old[key] for key in ("bos_token_id", "eos_token_id") if key in old},
    }


def add_tokens(directory: Path, config: Json, tensors: dict[str, Part]) -> dict[str, Json]:
    """Give image and padding a token each: tokenizer files are returned, configuration and embeddings are changed in place.

    The rows for new tokens are the mean of all rows: a mean logit is never the largest, so neither token is ever said.
    """
    tokenizer = read_tokenizer(directory)
    files = with_tokens(tokenizer, IMAGE, PAD)
    image, pad = tokenizer.convert_tokens_to_ids([IMAGE, PAD])
    for name in EMBEDDINGS:
        if name not in tensors:
            raise FormatError(directory, None, f"{name} is in no shard")
        part = tensors[name]
        lacking = len(tokenizer) - part.shape[0]
        if lacking > 0:
            whole = part if isinstance(part, Stored | Held) else Held(read_tensor(part), part.shard)
            tensors[name] = Joined((whole, mean_rows(whole, lacking)))
    rows = tensors[EMBEDDINGS[0]].shape[0]
    config |= {"image_token_index": image, "pad_token_id": pad}
    config["text_config"] |= {"vocab_size": rows, "pad_token_id": pad}
    return files


def mean_rows(part: Any, count: int) -> Held:
    """Rows that are all the mean of an embedding's rows: [count, width]."""
    import torch

    total, step = torch.zeros(part.shape[1], dtype=torch.float64), 4096
    for first in range(0, part.shape[0], step):
        total += read_tensor(rows(part, first, min(first + step, part.shape[0]))).double().sum(0)
    mean = (total / part.shape[0]).to(torch_dtype(part))
    return Held(mean.expand(count, -1).contiguous())


def processor_files(size: int, patch_size: int, pad: bool, select: str = "default") -> dict[str, Json]:
    """Files of LLaVA's processor with CLIP's preprocessing: images are padded to a square (`pad`), or their middle is cut out."""
    preprocessing = Preprocessing(size=size, mean=CLIP_MEAN, std=CLIP_STD, resize="pad" if pad else "crop")
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE,
        "patch_size": patch_size,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": select,
    }
    return {
        "processor_config.json": processor,
        "preprocessor_config.json": image_processor_settings(preprocessing) | {"processor_class": "LlavaProcessor"},
    }
