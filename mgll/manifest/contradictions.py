"""Images of a manifest whose labels or texts contradict each other: counted by readers, left out of questions."""

from collections import Counter
from collections.abc import Iterable

from mgll.manifest.records import Record
from mgll.vocabulary.contradictions import contradictions


def contradictions_of(record: Record) -> tuple[str, ...]:
    """What contradicts what on an image, as `Health beside Glaucoma`: its classes, and its texts that name one."""
    texts = (text for level in record.texts.values() for text in level)
    return tuple(f"{first} beside {second}" for first, second in contradictions([*record.labels, *texts], record.table))


def count_contradictions(records: Iterable[Record]) -> Counter[str]:
    """Contradiction -> number of images."""
    return Counter(pair for record in records for pair in contradictions_of(record))
