"""Short card beside a model that this package wrote: what the model is, and what it is not for."""

from pathlib import Path

CARD = "MODEL_CARD.md"


def write_card(directory: Path, title: str, facts: list[str]) -> None:
    """Write `MODEL_CARD.md` into a model's folder; a README.md that is there stays as it is."""
    lines = [f"# {title}", "", "Research use only, not for diagnosis.", "", *(f"- {fact}" for fact in facts)]
    (directory / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")
