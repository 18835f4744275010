"""Towers by how well a light decoder on their grids draws: Dice and IoU of each structure, with seeds and patients as random."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.cases.markdown_text import markdown_text
from benchmark.report.number_format import interval, p_number, percent, points, points_interval
from benchmark.stats.bootstrap import Estimate
from benchmark.stats.seeds import OverSeeds, corrected, difference_over_seeds, number_over_seeds
from mgll.evaluation.comparing import Side, side_of_means
from mgll.evaluation.drawn_areas import Segmentation

#: Columns of `Segmentation.overlap`.
NUMBERS = ("dice", "iou")


def segmentation_frame(methods: Mapping[str, Sequence[Segmentation]]) -> pd.DataFrame:
    """A line for every structure and method, the best of each structure first.

    Args:
        methods: method -> one segmentation for each of its runs, all of the same images.

    Raises:
        ValueError: if they were not measured on the same images.
    """
    lines = []
    for label in dict.fromkeys(label for runs in methods.values() for run in runs for label in run.overlap):
        if len({run.images.get(label) for runs in methods.values() for run in runs}) > 1:
            raise ValueError(f"{label}: towers were not measured on the same images")
        sides = {
            method: [_side(runs, label, column) for column in range(len(NUMBERS))] for method, runs in methods.items()
        }
        order = sorted(sides, key=lambda method: -float(sides[method][0].values.mean()))
        gaps = {method: _gap(sides[order[0]][0], sides[method][0]) for method in order[1:]}
        p = dict(zip(gaps, corrected([gap.p for gap in gaps.values()]), strict=True))
        for rank, method in enumerate(order, 1):
            line: dict[str, object] = {"structure": label, "method": method, "runs": len(methods[method]), "rank": rank}
            for name, side in zip(NUMBERS, sides[method], strict=True):
                found = number_over_seeds(side.values, side.influence).estimate
                line |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            first = methods[method][0]
            line |= {"images": len(first.images[label]), "images_without": first.without[label][0]}
            line["nothing_drawn_there"] = float(np.mean([run.without[label][1] for run in methods[method]]))
            behind = gaps[method].estimate if method in gaps else None
            line |= {"behind": behind.value if behind else 0.0, "p": float(p.get(method, np.nan))}
            line |= {"behind_low": behind.low if behind else 0.0, "behind_high": behind.high if behind else 0.0}
            lines.append(line)
    return pd.DataFrame(lines)


def sentences(methods: Mapping[str, Sequence[Segmentation]], structures: Sequence[str], split: str) -> list[str]:
    """What there is to say beside the table: structures that were not measured, and how each decoder ended.

    Args:
        methods: as for `segmentation_frame`.
        structures: all labels of the table of masks.
        split: the split that was measured.
    """
    first = next(iter(methods.values()))[0]
    said = []
    for label in sorted(set(structures) - first.overlap.keys()):
        without = first.without.get(label)
        why = f"none of {without[0]} images of split {split!r} has it" if without else "split 'train' does not teach it"
        said.append(f"{label} was not measured: {why}")
    for method, runs in methods.items():
        said += [
            f"{method}{f', run {number}' if len(runs) > 1 else ''}: {run.said}" for number, run in enumerate(runs, 1)
        ]
    return said


def markdown(frame: pd.DataFrame, said: Sequence[str] = ()) -> str:
    """The table in words, shares in per cent with 95 % intervals, and below it what else there is to say, a sentence each."""
    lines = [
        "| structure | method | runs | Dice | IoU | behind the best | p (Holm) | images | nothing drawn where there is none |"
    ]
    lines.append("|---|---|---:|---|---|---|---:|---:|---|")
    for row in frame.to_dict("records"):
        dice, iou = (Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in NUMBERS)
        behind = Estimate(row["behind"], row["behind_low"], row["behind_high"])
        gap = "–" if row["rank"] == 1 else f"{points(behind.value)} {_between(behind, points_interval)}".strip()
        right = f"{percent(row['nothing_drawn_there'])} of {row['images_without']}" if row["images_without"] else "–"
        lines.append(
            f"| {markdown_text(row['structure'])} | {markdown_text(row['method'])} | {row['runs']} |"
            f" {percent(dice.value)} {_between(dice, interval)} |"
            f" {percent(iou.value)} {_between(iou, interval)} | {gap} | {p_number(row['p'])} | {row['images']} | {right} |"
        )
    lines += ["", *(f"- {markdown_text(sentence)}" for sentence in said)] if said else []
    return "\n".join(lines) + "\n"


def _between(estimate: Estimate, words: Callable[[Estimate], str]) -> str:
    """The ends of an interval in brackets; nothing where nothing scatters, as where no image has anything drawn on it."""
    return "" if estimate.low == estimate.high else f"({words(estimate)})"


def _side(runs: Sequence[Segmentation], label: str, column: int) -> Side:
    values = np.stack([run.overlap[label][:, column] for run in runs])
    return side_of_means(values, runs[0].patients[label])


def _gap(best: Side, other: Side) -> OverSeeds:
    return difference_over_seeds([best.values, other.values], [best.influence, other.influence])
