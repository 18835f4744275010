"""Med-Flamingo as it is published: one `model.pt` with the trained tensors, which belong on top of LLaMA and OpenAI's CLIP.

OpenFlamingo saves the perceiver, the gated blocks and the input embeddings, some of them under two names, and loads them with
`strict=False`, which hides every mistake. This module checks that every tensor of the model is
found once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.weights.model_folder import read_json
from mgll.weights.reading import misfits
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.checkpoints.renaming import NameTable, renamed
from mllm_adapters.checkpoints.tensors import Held, Joined, Part, Stored, read_checkpoint, read_pickle
from mllm_adapters.contract.terms import HostError, Source
from mllm_adapters.hosts.llava.host import saved_vision
from mllm_adapters.hosts.llava.layout import mean_rows
from mllm_adapters.modules.image_processor import image_processor_settings
from mllm_adapters.modules.tokenizer_files import read_tokenizer, with_tokens

END, IMAGE, PAD = "<|endofchunk|>", "<image>", "<PAD>"  # added to LLaMA's tokens in this order
#: Checkpoints that the published file leaves out, and the hub ids from which its makers took them.
PARTS = {"llama": "huggyllama/llama-7b", "clip": "openai/clip-vit-large-patch14"}
EMBEDDINGS, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
LAYERS = "language_model.model.layers."
#: From the names in each of the three checkpoints to those of our model.
TRAINED: NameTable = (
    (r"perceiver\.", "perceiver."),
    (r"lang_encoder\.gated_cross_attn_layers\.(\d+)\.", rf"{LAYERS}\1.gated_cross_attn_layer."),
    (r"lang_encoder\.(?:model\.layers|old_decoder_blocks)\.(\d+)\.(?:decoder_layer\.)?", rf"{LAYERS}\1."),
    (r"lang_encoder\.", "language_model."),
)
LLAMA: NameTable = ((r"(?=model\.|lm_head\.)", "language_model."),)
CLIP: NameTable = ((r"(?:vision_model\.)?(?=embeddings\.|pre_layrnorm\.|encoder\.|post_layernorm\.)", "vision_tower."),)
#: Computed tables; the frozen CLIP, where it was saved too; CLIP's other half.
_LEFT_OUT = (
    r".*(?:rotary_emb\.inv_freq|embeddings\.position_ids)|vision_encoder\..*|text_model\..*"
    r"|(?:visual|text)_projection\.weight|logit_scale"
)
#: Some files were saved from inside a wrapper for several GPUs.
_WRAPPER = r"(?:module\.)?"
HEAD_DIM = 64


def read_published(directory: Path, parts: Mapping[str, Path]) -> Source:
    """Read the three checkpoints as one, under the names of `MedFlamingoForConditionalGeneration`.

    Raises:
        FormatError: if one of them is damaged, or together they have too few or too many tensors.
        HostError: if a part is not given, or is not the checkpoint that Med-Flamingo was trained on.
    """
    _check_parts(parts)
    pickle = _pickle(directory)
    trained = _rename(read_pickle(pickle), TRAINED, pickle)
    llama = _rename(read_checkpoint(parts["llama"]), LLAMA, parts["llama"])
    clip = _rename(read_checkpoint(parts["clip"]), CLIP, parts["clip"])
    tensors = {**llama, **clip, **trained}
    if not {EMBEDDINGS, HEAD} <= tensors.keys():
        raise FormatError(parts["llama"], None, f"{EMBEDDINGS} or {HEAD} is in no shard")
    head, rows = tensors[HEAD], tensors[EMBEDDINGS].shape[0]
    if head.shape[0] < rows and isinstance(head, Stored | Held):
        # the rows that OpenFlamingo added were random in training and were not saved; a mean logit is never the largest
        tensors[HEAD] = Joined((head, mean_rows(head, rows - head.shape[0])))
    config = _config(tensors, parts, directory)
    files = {"config.json": config, **_tokenizer_files(config, parts["llama"])}
    _check_complete(config, tensors, pickle)
    return Source(directory, files, tensors)


def _check_parts(parts: Mapping[str, Path]) -> None:
    for name, hub_id in PARTS.items():
        if name not in parts:
            raise HostError(f"model.pt leaves {name} out; add --part {name}={hub_id}, or a folder with a copy of that")
        found = read_json(parts[name] / "config.json").get("model_type")
        if found not in (name, f"{name}_vision_model"):
            raise HostError(f"{parts[name]} is a {found!r} checkpoint; part {name} must be {hub_id}")


def _pickle(directory: Path) -> Path:
    found = sorted(directory.glob("*.pt"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FormatError(directory, None, f"one .pt file was expected (model.pt), found: {names}")
    return found[0]


def _rename(tensors: Mapping[str, Part], table: NameTable, path: Path) -> dict[str, Part]:
    """The tensors by the names of our model; where one tensor has two published names, both must hold the same values."""
    wrapped = tuple((f"{_WRAPPER}{old}", new) for old, new in table)
    found: dict[str, Part] = {}
    for name, new in renamed(tensors, wrapped, f"{_WRAPPER}(?:{_LEFT_OUT})", path).items():
        if new in found and not _equal(found[new], tensors[name]):
            raise FormatError(path, None, f"{name} differs from the same tensor under its other name; which is right?")
        found[new] = tensors[name]
    return found


def _equal(one: Any, other: Any) -> bool:
    # inside functions, because listing the hosts needs neither torch nor transformers
    import torch

    return one.tensor.data_ptr() == other.tensor.data_ptr() or torch.equal(one.tensor, other.tensor)


def _config(tensors: Mapping[str, Part], parts: Mapping[str, Path], directory: Path) -> Json:
    """The model's config.json: shapes are read off the tensors, everything else is in the parts' own files."""
    from transformers import LlamaConfig

    llama, clip = read_json(parts["llama"] / "config.json"), read_json(parts["clip"] / "config.json")
    known = {*LlamaConfig().to_dict(), "rope_theta", "rope_scaling"} - {
        "architectures",
        "dtype",
        "transformers_version",
    }
    vision = clip.get("vision_config", clip)
    gated = sorted({int(name.split(".")[3]) for name in tensors if ".gated_cross_attn_layer." in name})
    if not gated:
        raise FormatError(directory, None, "no Flamingo in it: there is no gated block")
    try:
        block = f"{LAYERS}{gated[0]}.gated_cross_attn_layer."
        latents, inner = tensors["perceiver.latents"].shape[0], tensors[f"{block}attn.to_q.weight"].shape[0]
        outer, width = tensors[f"{block}ff.1.weight"].shape
        depth = len({name.split(".")[2] for name in tensors if name.startswith("perceiver.layers.")})
    except KeyError as error:
        raise FormatError(directory, None, f"not a whole Flamingo: {error} is missing") from None
    return {
        "architectures": ["MedFlamingoForConditionalGeneration"],
        "model_type": "mgll_med_flamingo",
        "dtype": llama.get("dtype") or llama.get("torch_dtype") or "float32",
        "text_config": {key: llama[key] for key in sorted(known & llama.keys())}
        | {"model_type": "llama", "vocab_size": tensors[EMBEDDINGS].shape[0]},
        "vision_config": _vision_config(vision),
        "cross_attn_every_n_layers": gated[0] + 1,
        "attend": "previous",
        "num_latents": latents,
        "perceiver_depth": depth,
        "heads": inner // HEAD_DIM,
        "head_dim": HEAD_DIM,
        "mlp_ratio": outer // width,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
    }


def _vision_config(found: Json) -> Json:
    from transformers import CLIPVisionConfig

    return saved_vision(CLIPVisionConfig(**{k: v for k, v in found.items() if k != "model_type"}).to_dict())


def _tokenizer_files(config: Json, llama: Path) -> dict[str, Json]:
    """Files of LLaMA's tokenizer with Flamingo's tokens, of the processor and of generation; token ids go into `config`."""
    from transformers import AddedToken

    tokenizer, rows = read_tokenizer(llama), config["text_config"]["vocab_size"]
    tokenizer.add_tokens([AddedToken(END, normalized=False, special=True)], True)
    files = with_tokens(tokenizer, IMAGE, tokenizer.pad_token or PAD)
    if len(tokenizer) != rows:
        raise HostError(
            f"with Flamingo's tokens the tokenizer in {llama} has {len(tokenizer)}, model.pt embeds {rows}; part llama must be the"
            " LLaMA that was trained on, with its own tokenizer"
        )
    end, image, pad = tokenizer.convert_tokens_to_ids([END, IMAGE, tokenizer.pad_token])
    config |= {"image_token_id": image}
    config["text_config"] |= {"pad_token_id": pad}
    preprocessing = Preprocessing(size=config["vision_config"]["image_size"], resize="crop")  # CLIP's own
    processor = {
        "processor_class": "PlaceholderProcessor",
        "marker": IMAGE,
        "token": IMAGE,
        "count": 1,
        "image_processor": image_processor_settings(preprocessing),
    }
    generation = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": [tokenizer.eos_token_id, end],
        "pad_token_id": pad,
    }
    return {**files, "processor_config.json": processor, "generation_config.json": generation}


def shapes(config: Json) -> dict[str, Any]:
    """Every tensor of the model that this config.json describes, on the meta device, which takes no memory."""
    import torch

    from mllm_adapters.hosts.med_flamingo.model import MedFlamingoConfig, MedFlamingoForConditionalGeneration

    with torch.device("meta"):
        return MedFlamingoForConditionalGeneration(MedFlamingoConfig(**config)).state_dict()


def _check_complete(config: Json, tensors: Mapping[str, Any], pickle: Path) -> None:
    if problems := misfits(tensors, shapes(config), "the model has"):
        raise FormatError(pickle, None, "with its parts it is not Med-Flamingo: " + "; ".join(problems[:6]))
