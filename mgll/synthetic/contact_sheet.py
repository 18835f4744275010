"""A picture of every class for people to look at."""

import numpy as np
from PIL import Image, ImageDraw

from mgll.synthetic.compatibility import check_labels
from mgll.synthetic.drawing import draw_eye
from mgll.synthetic.findings import GRADES
from mgll.synthetic.sampling import main_labels
from mgll.vocabulary.diseases import diseases


def contact_sheet(codes: list[str], columns: int = 6, seed: int = 0, size: int = 256) -> Image.Image:
    """Draw `columns` eyes of each class, one row per class, each cell labelled with the findings of the eye.

    A class with grades or kinds (`DR`, `AMD`, `Other`) shows them in turn.

    Raises:
        ValueError: for a code without a drawing.
    """
    for code in codes:
        check_labels(main_labels(np.random.default_rng(0), code))
    margin, caption = 150, 16
    sheet = Image.new("RGB", (margin + columns * size, len(codes) * (size + caption)), "black")
    pen = ImageDraw.Draw(sheet)
    for row, code in enumerate(codes):
        top = row * (size + caption)
        pen.text((6, top + size // 2), _wrapped(f"{code}: {diseases()[code].name}"), fill="white")
        for column in range(columns):
            rng = np.random.default_rng([seed, row, column])
            labels = main_labels(rng, code)
            if code in GRADES:
                kind = GRADES[code][column % len(GRADES[code])]
                labels = (code, kind) if code == "Other" else (kind,)
            left = margin + column * size
            sheet.paste(draw_eye(labels, int(rng.integers(2**31)), size), (left, top + caption))
            pen.text((left + 4, top + 2), ", ".join(labels), fill="white")
    return sheet


def _wrapped(text: str, width: int = 22) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word + " "
    return "\n".join(lines)
