"""Models over several devices: what accelerate spreads over cards, main memory and disk, and what cannot be done with it."""

from collections import Counter
from typing import Any

#: Where a card's parts wait until they are needed, which takes its time and cannot learn.
_AWAY = ("cpu", "disk")


def refuse_several(processes: int) -> None:
    """Raise `ValueError` if several processes would each spread a model over the same cards."""
    if processes > 1:
        raise ValueError(
            f"device_map spreads one model over all cards, and there are {processes} processes; start one, without a launcher"
        )


def refuse_parts_away(model: Any) -> None:
    """Raise `ValueError` if parts of a model that is tuned, or was, lie on disk or in the main memory beside a card.

    What was trained is put beside the base's weights, which are then not there.
    """
    if away := parts_away(model):
        raise ValueError(
            f"no room on the cards for {sum(away.values())} parts of the model ({_told(away)}), where a tuned model must be as a"
            " whole: take more cards, or --quantize nf4"
        )


def parts_away(model: Any) -> Counter[str]:
    """How many parts of a spread model lie on disk, or in main memory although there is a card."""
    places = Counter(map(str, (getattr(model, "hf_device_map", None) or {}).values()))
    on_cards = places.keys() - set(_AWAY)
    return Counter({place: places[place] for place in _AWAY if places[place] and (on_cards or place == "disk")})


def told_places(model: Any) -> str:
    """A sentence for the user where a model is spread over several places, else an empty text."""
    places = Counter(map(str, (getattr(model, "hf_device_map", None) or {}).values()))
    if len(places) < 2:
        return ""
    slow = "; what is not on a card is fetched for every answer, which is slow" if parts_away(model) else ""
    return f"the model is spread over {len(places)} places ({_told(places)}){slow}"


def _told(places: Counter[str]) -> str:
    return ", ".join(f"{count} parts on {place}" for place, count in sorted(places.items()))
