"""Code beside a model that no class of transformers can hold: `trust_remote_code=True` runs it, and this package is not needed."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.weights.model_folder import read_json
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.tower_spec import TowerSpec
from mllm_adapters.export.definitions import entry, file_of, files_with, is_own
from mllm_adapters.loading.classes import model_class

#: The file that config.json and the processor's files name.
MODELING = "modeling_graft"
_HEAD = '''"""{title}, for plain transformers.

    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)

Research use only, not for diagnosis. Written by MGLL-graft (Apache-2.0), which is not needed to run it.
"""

'''
_GRAFTED = '''

class GraftedConfig({config}):
    """The host's configuration, and how the tower in the place of its own is run."""

    model_type = "grafted_{model_type}"

    grafted_tower: dict | None = None


class GraftedModel({model}):
    """The host's own class with another vision tower in it."""

    config_class = GraftedConfig

    def __init__(self, config, *arguments, **options):
        super().__init__(config, *arguments, **options)
        tower = dict(config.grafted_tower)
        tower["geometry"] = SimpleNamespace(**tower["geometry"])
        self.set_submodule("{tower}", build_tower(None, SimpleNamespace(**tower), config))
'''


def needs_code(loaded: LoadedHost, spec: TowerSpec | None) -> bool:
    """Whether plain transformers can't do without code of ours: for the model, a tower inside it, or what prepares its images."""
    parts = (_class(loaded.host), type(getattr(loaded.processor, "image_processor", None)))
    return spec is not None or any(is_own(part.__module__) for part in parts)


def write_code(loaded: LoadedHost, spec: TowerSpec | None, out: Path) -> list[str]:
    """Write the code, and name it in the JSON files that lie in `out` already; returns the names of the files of code.

    Raises:
        ValueError: if the code uses itself in a way in which it can't be taken out of this package.
    """
    model, config = _class(loaded.host), type(loaded.model.config)
    entries = [entry(thing) for thing in (model, config) if is_own(thing.__module__)]
    head = [_import(config), _import(model)]
    classes = {"AutoConfig": config.__name__, "AutoModelForImageTextToText": model.__name__}
    body, changes = "", {}
    if spec is not None:
        build = _method(loaded.host, "build_tower")
        entries.append(entry(build))
        head += [f"from .{file_of(build.__module__)} import build_tower", "from types import SimpleNamespace"]
        body = _GRAFTED.format(
            config=config.__name__, model=model.__name__, model_type=config.model_type, tower=loaded.host.tower
        )
        classes = {"AutoConfig": "GraftedConfig", "AutoModelForImageTextToText": "GraftedModel"}
        changes = {"model_type": f"grafted_{config.model_type}", "grafted_tower": facts_of(spec)}
    for kind, thing in processor_parts(loaded.processor).items():
        entries.append(entry(type(thing)))
        head.append(_import(type(thing)))
        _name(out / "processor_config.json", kind, type(thing).__name__)
    code = (
        _HEAD.format(title=loaded.host.title)
        + "\n".join(sorted(head, key=lambda line: line.startswith("from .")))
        + "\n"
    )
    files = {f"{MODELING}.py": code + body, **files_with(entries)}
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    path = out / "config.json"
    auto_map = {auto: f"{MODELING}.{name}" for auto, name in classes.items()}
    changes |= {"architectures": [classes["AutoModelForImageTextToText"]], "auto_map": auto_map}
    _write(path, read_json(path) | changes)
    return sorted(files)


def processor_parts(processor: Any) -> dict[str, Any]:
    """The processor and its image processor, as far as their classes are ours, by the auto class that loads them."""
    found = {"AutoProcessor": processor, "AutoImageProcessor": getattr(processor, "image_processor", None)}
    return {auto: thing for auto, thing in found.items() if is_own(type(thing).__module__)}


def facts_of(spec: TowerSpec) -> dict[str, Any]:
    """All that the code asks of a `TowerSpec`, as JSON: its fields, and what follows from them."""
    derived = {
        name: getattr(spec, name)
        for kind in type(spec).__mro__
        if is_own(kind.__module__)
        for name, value in vars(kind).items()
        if isinstance(value, property)
    }
    return spec.model_dump(mode="json") | derived | {"geometry": spec.geometry.model_dump(mode="json")}


def _class(host: Host) -> Any:
    return model_class(host)


def _method(host: Host, name: str) -> Any:
    return inspect.unwrap(getattr(type(host), name))


def _import(thing: type) -> str:
    place = f".{file_of(thing.__module__)}" if is_own(thing.__module__) else "transformers"
    return f"from {place} import {thing.__name__}"


def _name(path: Path, kind: str, name: str) -> None:
    """Say in the processor's file which class of the code reads it."""
    content = read_json(path)
    place = content if kind == "AutoProcessor" else content["image_processor"]
    place["auto_map"] = {kind: f"{MODELING}.{name}"}
    _write(path, content)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
