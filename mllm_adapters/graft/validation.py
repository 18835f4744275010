"""Validation of a graft: a host's checkpoint directory with another vision tower in it, and `graft.json` that says how it was made.

`python -m mllm_adapters.graft validate DIR` checks one: every tensor's bytes, and that the processor puts in as many image tokens
as the connector yields features. `mllm_adapters.graft.transplant` makes one.
"""

import os
from pathlib import Path
from typing import Any

from mgll.formats import FormatError
from mgll.weights.model_folder import check_entries, read_json
from mllm_adapters.checkpoints.json_files import json_files
from mllm_adapters.checkpoints.tensors import check_finite, read_checkpoint, sha256_of
from mllm_adapters.contract.graft_record import GRAFT, Graft, read_graft
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.terms import HostError, fields_of
from mllm_adapters.hosts.registry import get_host
from mllm_adapters.prompting.token_rows import token_rows


def validate(directory: str | os.PathLike[str], verify: bool = False) -> Graft:
    """Check a graft against its record and the model that will be built of it.

    Checked are its files, the bytes of the tensors that changed, that no old tensor is left, that all tensors are those of the
    model and hold numbers, and the token count.

    Args:
        directory: the graft.
        verify: look for NaN and infinity in every byte of the tensors that the host had, not only in samples of large ones.

    Raises:
        FormatError: if a file or tensor is missing or differs from record or model; the message names it.
        HostError: if the number of features differs from the number of image tokens.
    """
    # here, because torch takes seconds to import
    from mllm_adapters.loading.empty_model import empty_model

    directory = Path(directory)
    check_entries(directory)
    record = read_graft(directory)
    lacking = [name for name in record.files if not (directory / name).exists()]
    if lacking:
        raise FormatError(directory, None, f"files named in {GRAFT} are missing: {', '.join(lacking)}")
    tensors = read_checkpoint(directory)
    for change in record.tensors:
        if change.change == "dropped":
            if change.name in tensors:
                raise FormatError(
                    tensors[change.name].shard or directory, None, f"still holds {change.name}, which was dropped"
                )
        elif change.name not in tensors:
            raise FormatError(directory, None, f"{change.name} is in no shard")
        elif sha256_of(tensors[change.name]) != change.sha256:
            raise FormatError(
                tensors[change.name].shard or directory, None, f"{change.name} has other bytes than {GRAFT} says"
            )
    host, files = get_host(record.host), json_files(directory)
    model = empty_model(host, directory, files["config.json"], tensors, record.tower)
    changed = {change.name for change in record.tensors} & tensors.keys()
    check_finite({name: tensors[name] for name in changed}, directory, whole=True)
    check_finite({name: part for name, part in tensors.items() if name not in changed}, directory, whole=verify)
    with fields_of(directory):
        check_count(record.features, host.placeholders(files))
    check_processor(host, directory, directory, record.features, model)
    return record


def check_processor(host: Host, directory: Path, named: Path, features: int, model: Any) -> None:
    """Let the processor of a directory prepare a black image; count the image tokens that it puts in, and look for rows of all.

    Args:
        host: the family.
        directory: where the processor's files lie.
        named: the directory for messages.
        features: number of vectors that the language model is given for one image.
        model: the model of the directory, which may be on the meta device.

    Raises:
        FormatError: if there is no processor in it that can do that, or a token has no row in the embeddings.
        HostError: if it puts in another number of image tokens.
    """
    # here, because Pillow takes a moment to import
    from PIL import Image

    with fields_of(named):
        processor, config = host.processor(directory), read_json(directory / "config.json")
        encoded = processor(images=[Image.new("RGB", (96, 96))], text=[host.prompt("")], return_tensors="pt")
        texts = {name: ids[0].tolist() for name, ids in encoded.items() if name.endswith("input_ids")}
        token_rows(LoadedHost(model, processor, host, named)).check(texts)
        token = config.get("image_token_index", config.get("image_token_id"))
        if token is not None and not host.dynamic:
            check_count(features, int((encoded["input_ids"] == token).sum()))


def check_count(features: int, placeholders: int) -> None:
    """Raise `HostError` unless the processor puts in as many image tokens as there are features."""
    if features != placeholders:
        raise HostError(
            f"the connector yields {features} features an image, the processor puts in {placeholders} image tokens"
        )
