"""The tables of a leaderboard in words, one form for page, Markdown, LaTeX and Excel, and as data frames."""

import numpy as np
import pandas as pd

from benchmark.leaderboard.content import ALL_SOURCES, BESIDE, Board, critical_difference
from benchmark.report.number_format import class_name, interval, p_number, percent, points, points_interval
from benchmark.report.tables import Cell, Table
from benchmark.stats.bootstrap import Estimate
from mgll.evaluation.linear_readings import LEFT_OUT, MULTI_LABEL, NEIGHBOURS, PROBE, RARE

#: Names of readings where there is little room.
_SHORT = {PROBE: "Probe", NEIGHBOURS: "k-NN", MULTI_LABEL: "Multi-label", RARE: "Rare", ALL_SOURCES: "Unseen sources"}
_NUMBERS = {
    "average_precision": "mAP",
    "accuracy": "ACC",
    "class_accuracy": "Mean class ACC",
    "sensitivity": "Sens. at 90 % spec.",
    "calibration_error": "ECE",
}


def auc_cell(estimate: Estimate) -> Cell:
    """An AUC with its interval; without one where nothing scatters, as where every image is on the right side."""
    return Cell(percent(estimate.value), "" if estimate.low == estimate.high else interval(estimate))


def manifests(board: Board) -> list[str]:
    """Names of the manifests, in the order of the entries."""
    return list(dict.fromkeys(entry.manifest for entry in board.entries))


def readings(board: Board, manifest: str) -> list[str]:
    """Ways of reading of a manifest that the main table has: all but the single sources."""
    found = dict.fromkeys(entry.reading for entry in board.entries if entry.manifest == manifest)
    return [name for name in found if name == ALL_SOURCES or not name.startswith(LEFT_OUT)]


def main_table(board: Board, manifest: str) -> Table:
    """Method by way of reading: macro AUC with its interval, and a star where it is not told apart from the best."""
    names = readings(board, manifest)
    found = {(entry.reading, entry.method): entry for entry in board.entries if entry.manifest == manifest}
    methods = [entry.method for entry in board.of(manifest, PROBE)]
    rows = []
    for method in methods:
        cells = [Cell(method), Cell(str(len(board.strengths[manifest][method])))]
        for name in names:
            entry = found.get((name, method))
            if entry is None:
                cells.append(Cell("–"))
                continue
            level = entry.rank > 1 and not entry.p < 0.05
            estimate = entry.found.estimate
            shown = auc_cell(estimate)
            cells.append(shown._replace(text=shown.text + "*") if level else shown)
        rows.append(tuple(cells))
    return Table(("Method", "Runs", *map(_heading, names)), tuple(rows))


def _heading(reading: str) -> str:
    """The name of a reading above its column, with a space before the per cent sign at which no line breaks."""
    return _SHORT.get(reading, reading[:1].upper() + reading[1:]).replace(" %", "\u202f%")


def numbers_table(board: Board, manifest: str, reading: str = PROBE) -> Table:
    """Every number of one reading, the best method first."""
    columns = ("Method", "Rank", "Macro AUC", *_NUMBERS.values(), "Behind the best", "p (Holm)", "C")
    rows = []
    for entry in board.of(manifest, reading):
        chosen = sorted(set(board.strengths[manifest][entry.method]))
        behind = Cell("–") if entry.rank == 1 else Cell(points(entry.behind.value), points_interval(entry.behind))
        rows.append(
            (
                Cell(entry.method),
                Cell(str(entry.rank)),
                auc_cell(entry.found.estimate),
                *(Cell(percent(entry.beside[name])) for name in _NUMBERS),
                behind,
                Cell(p_number(entry.p)),
                Cell(", ".join(f"{strength:g}" for strength in chosen)),
            )
        )
    return Table(columns, tuple(rows), frozenset({0}))


def source_table(board: Board, manifest: str) -> Table | None:
    """Method by left-out source; None where no source could be left out."""
    names = [e.reading for e in board.entries if e.manifest == manifest and e.reading.startswith(f"{LEFT_OUT} ")]
    names = list(dict.fromkeys(names))
    if not names:
        return None
    cells = {(e.method, e.reading): auc_cell(e.found.estimate) for e in board.entries if e.manifest == manifest}
    methods = [entry.method for entry in board.of(manifest, PROBE)]
    rows = tuple((Cell(method), *(cells.get((method, name), Cell("–")) for name in names)) for method in methods)
    return Table(("Method", *(name.removeprefix(f"{LEFT_OUT} ") for name in names)), rows)


def class_table(board: Board, manifest: str, reading: str = PROBE) -> Table:
    """Class by method: AUC with its interval, the commonest class first."""
    own = [entry for entry in board.classes if (entry.manifest, entry.reading) == (manifest, reading)]
    methods = [entry.method for entry in board.of(manifest, reading)]
    cells = {(entry.label, entry.method): auc_cell(entry.auc) for entry in own}
    counts = {entry.label: entry.positives for entry in own}
    rows = [
        (
            Cell(class_name(label, board.class_table(manifest))),
            Cell(f"{counts[label]:,}"),
            *(cells.get((label, method), Cell("–")) for method in methods),
        )
        for label in sorted(counts, key=lambda label: (-counts[label], label))
    ]
    return Table(("Class", "Images", *methods), tuple(rows))


def retrieval_table(board: Board, manifest: str) -> Table | None:
    """Method and level of texts by what is found; None where no tower brings its text side."""
    own = board.found_by_text.get(manifest, {})
    rows = []
    for method, levels in own.items():
        for level, found in levels.items():
            shares = [*found.image_to_text.values(), *found.text_to_image.values()]
            ranks = [f"{rank:,.1f}".removesuffix(".0") for rank in found.median_ranks]
            cells = [*map(percent, shares[: len(found.image_to_text)]), ranks[0]]
            cells += [*map(percent, shares[len(found.image_to_text) :]), ranks[1]]
            counts = f"{found.images:,} images, {found.texts:,} texts"
            rows.append((Cell(method), Cell(level, counts), *map(Cell, cells)))
    if not rows:
        return None
    first = next(iter(next(iter(own.values())).values()))
    sides = [("Text", first.image_to_text), ("Image", first.text_to_image)]
    columns = [name for side, shares in sides for name in (*(f"{side} R@{k}" for k in shares), f"{side}, median rank")]
    return Table(("Method", "Texts", *columns), tuple(rows), labels=2)


def read_on(board: Board, manifest: str) -> str:
    """On how many images, patients and classes the probe was read, a sentence."""
    images, patients, classes = board.read[manifest]
    return (
        f"Read on {images:,} image{'s' * (images != 1)} of {patients:,} patient{'s' * (patients != 1)},"
        f" {classes} class{'es' * (classes != 1)}. Macro averages weigh classes alike, however few images have one."
    )


def sentences(board: Board) -> list[str]:
    """What was skipped or noted: of which set, and of which methods where it is not said of all."""
    return [
        f"{note.manifest}: {note.sentence}"
        if len(note.methods) == len(board.strengths[note.manifest])
        else f"{note.manifest}, {', '.join(note.methods)}: {note.sentence}"
        for note in board.said
    ]


def rank_table(board: Board) -> Table:
    """Rank of each method by the probe on each manifest, the mean over manifests, and that over all ways of reading too."""
    names = manifests(board)
    ranks = {(entry.manifest, entry.method): entry.rank for entry in board.entries if entry.reading == PROBE}
    probe = {m: float(np.mean([ranks[n, m] for n in names if (n, m) in ranks])) for m in board.ranks}
    rows = tuple(
        (
            Cell(method),
            *(Cell(str(ranks.get((name, method), "–"))) for name in names),
            Cell(f"{probe[method]:.2f}"),
            Cell(f"{board.ranks[method]:.2f}"),
        )
        for method in sorted(board.ranks, key=lambda method: (probe[method], board.ranks[method]))
    )
    return Table(("Method", *names, "Mean of probe", "Mean of all readings"), rows)


def rank_note(board: Board) -> str:
    """How far ranks must lie apart, in words."""
    sets, methods = len(manifests(board)), len(board.ranks)
    if methods < 2:
        return "One method has no rank."
    apart = critical_difference(methods, sets)
    told = (
        f"Over {sets} set{'s' * (sets > 1)} the mean ranks of {methods} methods differ at 5 % from {apart:.2f} on"
        " (Nemenyi, Demšar 2006)"
    )
    if apart > methods - 1:
        told += ", which is more than ranks can differ: with so few sets they are no test"
    return (
        f"{told}. The test takes sets as independent, so it counts the probe on each set once; other readings of the same"
        " images are no further sets. Intervals and p above, which count patients and seeds, say more."
    )


def entry_frame(board: Board) -> pd.DataFrame:
    """A line for every manifest, reading and method; shares are fractions."""
    return pd.DataFrame(
        {
            "manifest": entry.manifest,
            "reading": entry.reading,
            "method": entry.method,
            "runs": entry.found.runs[0],
            "rank": entry.rank,
            "macro_auc": entry.found.estimate.value,
            "low": entry.found.estimate.low,
            "high": entry.found.estimate.high,
            "by_run": " ".join(f"{value:.4f}" for value in entry.found.by_run),
            "between_runs": entry.found.between_runs,
            **{name: entry.beside[name] for name in BESIDE},
            "behind": entry.behind.value,
            "behind_low": entry.behind.low,
            "behind_high": entry.behind.high,
            "p_holm": entry.p,
        }
        for entry in board.entries
    )


def class_frame(board: Board) -> pd.DataFrame:
    """A line for every manifest, reading, method and class; shares are fractions."""
    return pd.DataFrame(
        {
            "manifest": entry.manifest,
            "reading": entry.reading,
            "method": entry.method,
            "class": entry.label,
            "name": class_name(entry.label, board.class_table(entry.manifest)),
            "auc": entry.auc.value,
            "low": entry.auc.low,
            "high": entry.auc.high,
            "positives": entry.positives,
            "images": entry.images,
        }
        for entry in board.classes
    )
