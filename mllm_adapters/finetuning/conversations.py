"""Conversations to learn in whole: captions of a manifest's images, and general data sets in LLaVA's JSON."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgll.formats import FormatError, read_text
from mgll.images.files import image_exists
from mgll.manifest.records import read_manifest
from mllm_adapters.settings import Conversation

#: What a caption answers, one after the other.
REQUESTS = (
    "Describe this photograph.",
    "What does this photograph show?",
    "Give a short description of this photograph.",
)
#: Who speaks in LLaVA's JSON, in its two spellings.
_ASKS, _REPLIES = {"human", "user"}, {"gpt", "assistant"}


def captions(manifest: str | os.PathLike[str]) -> list[Conversation]:
    """The training images of a manifest, each with all its texts as the reply to a request for a description.

    Raises:
        FormatError: for a bad manifest, or one whose training images have no texts.
    """
    records = read_manifest(manifest, "train")
    pairs = [(Path(record.image), record.caption) for record in records if record.caption]
    if not pairs:
        raise FormatError(manifest, None, "no training image has a text, so there are no captions")
    return [
        Conversation(image, ((REQUESTS[number % len(REQUESTS)], caption),))
        for number, (image, caption) in enumerate(pairs)
    ]


def read_conversations(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> tuple[list[Conversation], Counter[str]]:
    """Read a data set in LLaVA's JSON: a list of entries with `image` and `conversations`, whose turns have `from` and `value`.

    Args:
        path: the file.
        images: folder that image paths are relative to; that of the file if None.

    Returns:
        The conversations, and why how many entries were left out: without an image, or with an image that is not there.

    Raises:
        FormatError: if the file is not such a list, naming the first wrong entry, or nothing is left of it.
    """
    folder = Path(images) if images is not None else Path(path).parent
    try:
        entries = json.loads(read_text(path))
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, None, f"not JSON ({error})") from None
    if not isinstance(entries, list):
        raise FormatError(path, None, f"a list of conversations is needed, found {type(entries).__name__}")
    found, left_out = [], Counter[str]()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise FormatError(path, None, f"entry {number} is no object")
        turns = _turns(path, number, entry)
        image = entry.get("image")
        if not image:
            left_out["has no image"] += 1
        elif not isinstance(image, str):
            raise FormatError(path, None, f"entry {number}: image is {type(image).__name__}, one path is needed")
        elif not image_exists(folder / image):
            left_out["its image is not there"] += 1
        else:
            found.append(Conversation(folder / image, turns))
    if not found:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "the list is empty"
        raise FormatError(path, None, f"no conversation can be used ({reasons})")
    return found, left_out


def _turns(path: str | os.PathLike[str], number: int, entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    said = entry.get("conversations")
    where = f"entry {number}"
    if not isinstance(said, list) or len(said) < 2 or len(said) % 2:
        raise FormatError(path, None, f"{where}: `conversations` must be a list of questions and replies in turn")
    turns = []
    for place in range(0, len(said), 2):
        asked, replied = (
            _said(path, f"{where}, turn {place + i}", said[place + i], who) for i, who in enumerate((_ASKS, _REPLIES))
        )
        if not replied.strip():
            raise FormatError(path, None, f"{where}, turn {place + 1}: the reply is empty")
        turns.append((asked.replace("<image>", "").strip(), replied.strip()))
    return tuple(turns)


def _said(path: str | os.PathLike[str], where: str, turn: Any, who: set[str]) -> str:
    if not isinstance(turn, dict) or turn.get("from") not in who or not isinstance(turn.get("value"), str):
        raise FormatError(
            path, None, f"{where}: a `value` from {' or '.join(sorted(who))} is needed, found {turn!r:.80}"
        )
    return str(turn["value"])
