"""A short card beside a model that we wrote: what it is, what it is not for."""

from pathlib import Path

CARD = "MODEL_CARD.md"


def write_card(directory: Path, title: str, facts: list[str]) -> None:
    """Write `MODEL_CARD.md`; a host's own README.md stays as it is."""
    lines = [f"# {title}", "", "Research use only, not for diagnosis.", "", *(f"- {fact}" for fact in facts)]
    (directory / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")
