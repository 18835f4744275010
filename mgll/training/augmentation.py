"""Augmentation that the texts do not contradict: no flip where they name sides, no colour jitter where they name colours.

A flipped left lung is a right one: trained against texts that name sides, the point-wise term learns nothing of them. Jitter never
changes the hue; up to `SAFE_JITTER`, the paper's, colours keep their names but for the palest, and beyond it orange turns into red.
"""

from collections.abc import Iterable
from dataclasses import replace

from mgll.manifest.records import Record
from mgll.settings import COLOUR_JITTER, FLIP, PretrainSettings
from mgll.vocabulary.image_words import texts_that_name

#: Largest colour jitter that may be asked for where texts name colours.
SAFE_JITTER = 0.1


def settle_augmentation(
    settings: PretrainSettings, records: Iterable[Record]
) -> tuple[PretrainSettings, tuple[str, ...]]:
    """Decide flip and colour jitter where the settings leave them open, and check those that they name.

    Args:
        settings: settings of a run.
        records: the images trained on; levels that `granularity` takes away are not looked at.

    Returns:
        The settings with both as numbers, and sentences that say what was switched off or kept although texts speak against it.

    Raises:
        ValueError: if a flip, or more jitter than `SAFE_JITTER`, is asked for although texts name sides or colours.
    """
    flip, jitter = settings.flip, settings.colour_jitter
    if settings.augment_against_texts or (flip == 0 and jitter == 0):
        return replace(settings, flip=_or(flip, FLIP), colour_jitter=_or(jitter, COLOUR_JITTER)), ()
    left_out = {level for level, half in (settings.granularity or {}).items() if half == "none"}
    levels = (own for record in records for level, own in record.texts.items() if level not in left_out)
    texts = list(dict.fromkeys(text for own in levels for text in own))
    said = []
    sides, colours = texts_that_name("side", texts), texts_that_name("colour", texts)
    anyway = "--augment-against-texts true trains so all the same"
    if sides.texts and flip is None:
        flip = 0.0
        said.append(f"flip is off, not {FLIP}: {sides} name a side, which a flipped image contradicts; {anyway}")
    elif sides.texts and flip:
        raise ValueError(
            f"flip {flip}: {sides} name a side, which a flipped image contradicts; set flip to 0 or leave it out ({anyway})"
        )
    if colours.texts and jitter is None:
        jitter = 0.0
        said.append(
            f"colour jitter is off, not {COLOUR_JITTER}: {colours} name a colour, which jitter changes;"
            f" --colour-jitter {SAFE_JITTER} or less may be asked for"
        )
    elif colours.texts and jitter and jitter > SAFE_JITTER:
        raise ValueError(
            f"colour_jitter {jitter}: {colours} name a colour, which so much jitter changes; set it to {SAFE_JITTER} or less, or"
            f" leave it out ({anyway})"
        )
    elif colours.texts and jitter:
        said.append(f"colour jitter {jitter} is kept as asked for, although {colours} name a colour")
    return replace(settings, flip=_or(flip, FLIP), colour_jitter=_or(jitter, COLOUR_JITTER)), tuple(said)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
