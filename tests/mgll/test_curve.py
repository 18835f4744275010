"""Training curves: what a run logged, thinned, in the tower's header or in the log beside it."""

import json
from pathlib import Path

import pytest
import torch

from mgll.encoders.vision import vision_encoder
from mgll.formats import FormatError
from mgll.images.preprocessing import Preprocessing
from mgll.tower.curve import LOG, Curve, curve_of, thinned
from mgll.tower.file import save_tower


def log(path: Path, steps: int) -> Path:
    said = {"epoch": 0, "learning_rate": 1e-3, "damaged": 0}
    lines = [{"step": 10 * step, **said, "loss": 3 / step, "sclip": 1 / step} for step in range(1, steps + 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tower(path: Path, **origin: str) -> Path:
    torch.manual_seed(0)
    save_tower(path, vision_encoder("vit-nano-16", 32), Preprocessing(size=32), "mean", **origin)
    return path


@pytest.mark.parametrize(("steps", "kept"), [(1, 1), (200, 200), (201, 101), (5000, 200)])
def test_a_log_is_thinned_and_keeps_its_last_line(steps, kept, tmp_path):
    names, *rows = thinned(log(tmp_path / LOG, steps)).splitlines()
    assert names == "step loss sclip"
    assert len(rows) == kept
    assert int(rows[-1].split()[0]) == 10 * steps
    assert [float(cell) for cell in rows[-1].split()[1:]] == pytest.approx([3 / steps, 1 / steps], rel=1e-4)


def test_the_curve_travels_in_the_header_and_else_is_that_of_the_log_beside_it(tmp_path):
    assert curve_of(tower(tmp_path / "t.ckpt")) is None
    log(tmp_path / LOG, 3)
    beside = Curve((10, 20, 30), {"loss": (3.0, 1.5, 1.0), "sclip": (1.0, 0.5, 0.33333)})
    assert curve_of(tmp_path / "t.ckpt") == beside
    carried = tower(tmp_path / "t.ckpt", curve=thinned(tmp_path / LOG))
    log(tmp_path / LOG, 2)
    assert curve_of(carried) == beside


@pytest.mark.parametrize("curve", ["step loss\n1 high", "step loss\n1 2\n3", "loss\n1"])
def test_a_curve_of_another_form_is_refused(curve, tmp_path):
    with pytest.raises(FormatError, match=r"t\.ckpt: its training curve is not of a form that is known"):
        curve_of(tower(tmp_path / "t.ckpt", curve=curve))


def test_a_log_cut_short_is_refused(tmp_path):
    (tmp_path / LOG).write_text('{"step": 1, "lo')
    with pytest.raises(FormatError, match="not JSON"):
        curve_of(tower(tmp_path / "t.ckpt"))
