"""What decides the weights of a pretraining run, by content: only a run made of the very same is resumed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mgll.encoders.text import EMBEDDED
from mgll.files import content_sha256, sha256, write_text
from mgll.manifest.image_identity import image_file, image_states, read_whole
from mgll.manifest.records import Record
from mgll.run_folder import read_run
from mgll.settings import PretrainSettings
from mgll.training.checkpoint import newest_checkpoint

#: The file in the folder of a run that says what it is made of.
SETTINGS = "settings.json"
#: The file in the folder of a run with the state of each image file, a line each.
IMAGES = "images.txt"
#: Settings that name a file or folder whose content is compared, wherever it lies.
_PATHS = {"manifest", "out", "start_weights"}
#: Settings that may have other values when a run is resumed, because its weights do not depend on them.
_MAY_CHANGE = {
    "max_bad_share",
    "remember_images",
    "workers",
    "prefetch",
    "cache_images",
    "cache_gib",
    "checkpoint_every",
    "log_every",
    "trackers",
}


def settle_decode(settings: PretrainSettings) -> tuple[PretrainSettings, str]:
    """Decide how images are decoded where the settings leave it open: as the run in `out` began, and `draft` in a new one.

    Returns:
        The settings with `decode`, and a sentence where an old run decides.

    Raises:
        FormatError: if `out` holds checkpoints and does not say what they were made of.
    """
    out = Path(settings.out)
    if settings.decode or newest_checkpoint(out / "checkpoints") is None:
        return replace(settings, decode=settings.preprocessing.decode), ""
    if read_run(out / SETTINGS, "checkpoints").get("decode") == "draft":
        return replace(settings, decode="draft"), ""
    said = f"{out}: images are decoded in full, as when this run began; a new run decodes drafts"
    return replace(settings, decode="exact"), said


def made_of(settings: PretrainSettings, text_commit: str | None = None) -> dict[str, Any]:
    """The settings on which the weights depend, and hashes of what lies at their paths. For the images see `claim_images`.

    Args:
        settings: the run's; `manifest` must name a file.
        text_commit: commit of the text encoder, where it comes from the hub.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in _PATHS | _MAY_CHANGE}
    # nothing stands for what was the only way before there was a choice, as in runs from then
    values["decode"] = "draft" if settings.preprocessing.decode == "draft" else None
    values |= {name: getattr(settings, name) or None for name in ("augment_on_device", "compile")}
    start = settings.start_weights
    hashes: dict[str, Any] = {
        "manifest_sha256": sha256(str(settings.manifest)),
        "start_weights_sha256": content_sha256(start) if start else None,
    }
    kind, _, folder = settings.encoder.partition(":")
    if kind == "hf":
        values.pop("encoder")
        hashes["encoder_sha256"] = content_sha256(folder)
    # the embedded one is checked against its pinned hash whenever it is loaded
    if settings.text_encoder != EMBEDDED and Path(settings.text_encoder).is_dir():
        values.pop("text_encoder")
        hashes["text_encoder_sha256"] = content_sha256(settings.text_encoder)
    else:
        hashes["text_encoder_commit"] = text_commit
    return {**values, **hashes}


def claim_images(
    out: Path, records: Sequence[Record], by_bytes: bool, begun: bool, damaged: Collection[str] = ()
) -> None:
    """Write the state of every image file into the folder of a run, or refuse to go on with other files.

    Args:
        out: the folder.
        records: the images the run trains on.
        by_bytes: see `PretrainSettings.verify_images`.
        begun: whether the folder holds checkpoints of this run.
        damaged: images that the run could not read so far; their files may be mended meanwhile.

    Raises:
        ValueError: naming the first files that have changed since the run began, and how many there are.
    """
    listed = out / IMAGES
    before = listed.read_text(encoding="utf-8").splitlines() if begun and listed.is_file() else []
    # a run goes on as it began: the word for a size and a time has a colon
    by_bytes = ":" not in before[0] if before else by_bytes or read_whole(records)
    states = image_states(records, by_bytes)
    if before:
        may = {image_file(image) for image in damaged}
        changed = [
            file for (file, state), old in zip(states.items(), before, strict=True) if state != old and file not in may
        ]
        if changed:
            named = ", ".join(map(str, changed[:3]))
            raise ValueError(
                f"{out}: {len(changed)} of {len(states)} image files are not those with which this run began ({named}); bring them"
                " back, or choose another --out"
                + ("" if by_bytes else ". Copies need their files' times, as `cp -a` keeps them")
            )
    write_text(listed, "".join(f"{state}\n" for state in states.values()))


def in_provenance(made: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of content among what a run is made of, for the origin of its tower."""
    return {name: value for name, value in made.items() if name.endswith(("_sha256", "_commit")) and value is not None}
