"""A host's own tower, taken out of its checkpoint and grafted into it again: the graft that may change nothing.

It is the control of every table of grafts: if its scores are not the untouched host's, then what other grafts change is not the
tower alone.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from mgll.tower.config import CLIP, CLIP_DEFAULTS
from mgll.tower.file import tower_shapes
from mllm_adapters.checkpoints.tensors import read_tensor
from mllm_adapters.contract.graft_record import Graft
from mllm_adapters.contract.host import Host
from mllm_adapters.graft.source import OpenedHost, check_whole, open_source, take_apart
from mllm_adapters.graft.transplant import convert_host, graft_tower
from mllm_adapters.modules.image_processor import preprocessing_of


def regraft_own_tower(host: Host, source: str | os.PathLike[str], out: str | os.PathLike[str]) -> Graft:
    """Write to `out` the checkpoint in `source` with its own tower grafted into it.

    A tower that a tower file can hold, CLIP's, goes through one and comes back as a donor. Those of a family's own class cannot be
    donors: for them all tensors of the checkpoint are written again, the tower's among them.

    Returns:
        The record; its `donor` is None where the tower could not be one.

    Raises:
        FormatError: if the checkpoint is damaged or incomplete.
        HostError: if it is of another family, or `out` holds anything but an earlier graft.
    """
    opened = take_apart(host, open_source(host, Path(source)))
    check_whole(host, opened.source)
    with TemporaryDirectory() as folder:
        tower = Path(folder) / "own.ckpt"
        return graft_tower(host, source, tower, out) if _save(opened, tower) else convert_host(host, source, out)


def _save(opened: OpenedHost, path: Path) -> bool:
    """Write the host's tower to a tower file; False, and no file, where it is of a class that no tower file holds."""
    # here, because torch takes seconds to import
    from mgll.tower.file import save_tower
    from mgll.tower.model import build_model

    files = opened.source.files
    config = CLIP_DEFAULTS | files["config.json"].get("vision_config", {})
    if config.get("model_type", CLIP) != CLIP or tower_shapes(config).keys() != opened.tower.keys():
        return False
    model = build_model(config)
    parts = opened.source.tensors
    model.load_state_dict({name: read_tensor(parts[stored]).float() for name, stored in opened.tower.items()})
    images = files.get("processor_config.json", {}).get("image_processor") or files["preprocessor_config.json"]
    seen = preprocessing_of(images).model_copy(update={"size": int(config["image_size"])})
    save_tower(path, model, seen, objective=f"the own tower of {opened.source.directory.name}")
    return True
