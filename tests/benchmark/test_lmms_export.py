"""The task folder for lmms-eval: what stands in it, and what its functions make of answers."""

import json
import math
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmark.cases.case import Case, read_cases
from benchmark.cases.images import open_case_image
from benchmark.harnesses import lmms_eval_tasks as tasks
from benchmark.harnesses.lmms_export import main
from mgll.images.preprocessing import ImageError
from mgll.vocabulary.questions import LETTERS, question_text


@pytest.fixture
def folder(cases_file: Path, tmp_path: Path) -> Path:
    assert main([str(cases_file), "--out", str(tmp_path / "tasks")]) == 0
    return tmp_path / "tasks"


def config(path: Path) -> dict:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor(
        "!function", lambda loader, node: getattr(tasks, node.value.removeprefix(f"{tasks.__name__}."))
    )
    return yaml.load(path.read_text(), Loader)


def test_documents_are_the_cases_and_show_their_images(folder: Path, cases_file: Path) -> None:
    documents = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    cases = read_cases(cases_file)
    for document, case in zip(documents, cases, strict=True):
        assert Path(document["image"]).is_absolute()
        assert Case.model_validate(document | {"image": case.image}) == case
        assert tasks.question(document) == question_text(case.question, case.options)
        assert tasks.answer_letter(document) == LETTERS[case.answer]
        (shown,) = tasks.image(document)
        assert shown.tobytes() == open_case_image(case).tobytes()


def test_every_class_has_its_metric(folder: Path, cases_file: Path) -> None:
    codes = {case.code for case in read_cases(cases_file)}
    for view in ("letter", "text", "option"):
        task = config(folder / f"mgll_{view}.yaml")
        names = {metric["metric"] for metric in task["metric_list"]}
        assert names - {"unparsed"} == {"acc", "acc_macro", *(f"acc_{code}" for code in codes)}
        assert ("unparsed" in names) == (view == "text")
        assert callable(task["process_results"])
        assert callable(task["doc_to_visual"])
    assert config(folder / "mgll_letter.yaml")["doc_to_choice"] == list(LETTERS)


def test_a_changed_image_is_not_shown(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "cases.jsonl").read_text().splitlines()[0])
    Image.new("RGB", (20, 20)).save(tmp_path / "other.png")
    with pytest.raises(ImageError, match=r"case case-000: .*is not the image"):
        tasks.image(document | {"image": str(tmp_path / "other.png")})


DOCUMENT = {
    "id": "one",
    "group": "patient",
    "options": ["Health", "Glaucoma", "Cataract", "Diabetic Retinopathy"],
    "answer": 2,
    "code": "Cataract",
}


@pytest.mark.parametrize(
    ("losses", "chosen", "right"),
    [
        ([3.0, 2.0, 0.5, 1.0], 2, 1.0),
        ([0.5, 2.0, 0.5, 1.0], None, 0.5),
        ([0.5, 0.5, 2.0, 1.0], None, 0.0),
        ([9.0, 9.0, 9.0, 8.9], 3, 0.0),
    ],
)
@pytest.mark.parametrize("form", [lambda loss: (loss, False), lambda loss: str((loss, True))])
def test_the_smallest_loss_is_chosen_in_either_form(
    losses: list[float], chosen: int | None, right: float, form
) -> None:
    found = tasks.score_losses(DOCUMENT, [form(loss) for loss in losses])
    assert found == {
        "acc": {"score": right, "group": "patient"},
        "acc_macro": ("Cataract", right),
        "acc_Cataract": right,
        "chosen": chosen,
    }


@pytest.mark.parametrize("bad", [(math.nan, False), (math.inf, False)])
def test_a_loss_that_is_no_number_stops(bad: tuple[float, bool]) -> None:
    with pytest.raises(ValueError, match="case one: losses"):
        tasks.score_losses(DOCUMENT, [(1.0, False), bad, (2.0, False), (3.0, True)])


def test_a_reply_that_names_no_option_is_wrong_and_counted() -> None:
    named, wrong, silent = (tasks.score_reply(DOCUMENT, [text]) for text in ("C", "A", "I cannot say."))
    assert [found["acc"]["score"] for found in (named, wrong, silent)] == [1, 0, 0]
    assert [found["chosen"] for found in (named, wrong, silent)] == [2, 0, None]
    assert [found["unparsed"] for found in (named, wrong, silent)] == [0, 0, 1]


def test_a_class_counts_once_in_the_macro_average() -> None:
    items = [("DR", 1.0), ("DR", 1.0), ("DR", 0.0), ("Health", 0.0)]
    assert tasks.macro_accuracy(items) == pytest.approx((2 / 3 + 0) / 2)
    assert tasks.accuracy([{"score": score} for _, score in items]) == 0.5


def test_a_wrong_file_or_image_is_named(cases_file: Path, tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    moved = tmp_path / "cases.jsonl"
    moved.write_text(cases_file.read_text())
    assert main([str(moved), "--out", str(tmp_path / "out")]) == 1
    assert "line 2: field image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
