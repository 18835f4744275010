"""The stages of a recipe: each is made once, and again when something that went into it has changed.

Beside what a stage makes, `NAME.stage.json` says what it was made of: settings, and of files and folders the content. A name or a
date decides nothing.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from mgll.files import content_sha256, write_text
from mgll.run_folder import differences, read_run


def stage(out: Path, made_of: Mapping[str, Any], make: Callable[[], object]) -> Path:
    """Make a file or folder unless it is there, finished, and was made of the very same.

    What was begun of the same is left to `make`, which may go on with it. What was made of something else is removed first, and a
    line says what changed.

    Args:
        out: the file or folder.
        made_of: what decides it. A `Path` stands for the content of a file or folder; dataclasses for their fields.
        make: makes it.

    Returns:
        `out`.

    Raises:
        ValueError: if `out` is there and nothing says what it was made of.
    """
    if begin_stage(out, made_of):
        make()
        finish_stage(out)
    return out


def begin_stage(out: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether `out` is to be made; if so, what was made of something else is gone. One process of several calls it.

    Raises:
        ValueError: if `out` is there and nothing says what it was made of.
    """
    path, new = _record(out), _by_content(made_of)
    if path.is_file():
        record = read_run(path, "a stage")
        changed = differences(record.get("made_of", {}), new)
        if not changed and _is_whole(out, record):
            return False
        if changed:
            print(f"{out} is made again: {'; '.join(changed)}", flush=True)
            _remove(out)
    elif out.exists():
        raise ValueError(f"{out} is there, but {path.name}, which says what it was made of, is not: remove {out}")
    write_text(path, json.dumps({"finished": False, "made_of": new}, indent=2) + "\n")
    return True


def finish_stage(out: Path) -> None:
    """Note that a stage that `begin_stage` began is whole."""
    record = read_run(_record(out), "a stage")
    write_text(_record(out), json.dumps({**record, "finished": True}, indent=2) + "\n")


def drop_stage(out: Path) -> None:
    """Remove what a stage made or began, and what is said of it, because nobody needs it any more."""
    _remove(out)
    _record(out).unlink(missing_ok=True)


def is_made(out: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether `out` is there, finished, and was made of the very same."""
    if not _record(out).is_file():
        return False
    record = read_run(_record(out), "a stage")
    return _is_whole(out, record) and not differences(record.get("made_of", {}), _by_content(made_of))


def _is_whole(out: Path, record: Mapping[str, Any]) -> bool:
    return out.exists() and bool(record.get("finished"))


def is_finished(out: Path) -> bool:
    """Whether `out` was made to its end, whatever it was made of."""
    return out.exists() and _record(out).is_file() and bool(read_run(_record(out), "a stage").get("finished"))


def _record(out: Path) -> Path:
    return out.with_name(f"{out.name}.stage.json")


def _by_content(value: Any) -> Any:
    """The value as JSON holds it, with the hash of what lies at a path in the place of the path."""
    if isinstance(value, Path):
        return content_sha256(value) if value.exists() else None
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _by_content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_by_content(item) for item in value]
    return value


def _remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
