"""Write a file of cases as a task folder for lmms-eval.

    python -m benchmark.harnesses.lmms_export cases.jsonl --out runs/lmms_tasks
    lmms-eval --include_path runs/lmms_tasks --tasks mgll_letter,mgll_text --model mgll_graft --model_args pretrained=DIR

`mgll_letter` compares the likelihoods of the letters, `mgll_option` those of the options' texts, `mgll_text` reads what the model
writes. The folder needs no network; images stay where they are, under their absolute paths. Research use only, not for diagnosis.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmark.cases.case import Case, check_images, read_cases
from benchmark.harnesses import lmms_eval_tasks as tasks
from benchmark.predictions.file import cases_sha256, questions_sha256
from benchmark.scorers.scorer import REPLY_TOKENS
from mgll.ending import ends_in_one_line
from mgll.files import write_text
from mgll.flags import CommandParser
from mgll.vocabulary.questions import LETTERS

DATA = "cases.jsonl"


class _Function(str):
    """The full name of a function, written with the tag by which lmms-eval imports it."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def export(cases: Sequence[Case], out: str | os.PathLike[str]) -> list[str]:
    """Write the folder; returns the names of its tasks."""
    out = Path(out)
    rows = [case.model_copy(update={"image": str(Path(case.image).resolve())}) for case in cases]
    write_text(out / DATA, "".join(row.model_dump_json() + "\n" for row in rows))
    configs = task_configs(cases)
    for config in configs:
        text = yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        write_text(out / f"{config['task']}.yaml", text)
    return [config["task"] for config in configs]


def task_configs(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The three tasks in lmms-eval's terms."""
    codes = sorted({case.code for case in cases})
    metrics = [_metric("acc", tasks.accuracy), _metric("acc_macro", tasks.macro_accuracy)]
    metrics += [_metric(tasks.class_metric(code), "mean") for code in codes]
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": DATA}},
        "test_split": "test",
        "doc_to_visual": _function(tasks.image),
        "doc_to_text": _function(tasks.question),
        "cluster_key": "group",
        "metadata": {"version": 1, "cases_sha256": cases_sha256(cases), "questions_sha256": questions_sha256(cases)},
    }
    likelihood = {
        "output_type": "multiple_choice",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "process_results": _function(tasks.score_losses),
        "metric_list": metrics,
    }
    reply = {
        "output_type": "generate_until",
        "doc_to_target": _function(tasks.answer_letter),
        "generation_kwargs": {"max_new_tokens": REPLY_TOKENS, "do_sample": False, "temperature": 0, "until": []},
        "process_results": _function(tasks.score_reply),
        "metric_list": [*metrics, _metric("unparsed", "mean", better="lower")],
    }
    return [
        {"task": "mgll_letter", **shared, **likelihood, "doc_to_choice": list(LETTERS)},
        {"task": "mgll_option", **shared, **likelihood, "doc_to_choice": "options"},
        {"task": "mgll_text", **shared, **reply},
    ]


def _metric(name: str, aggregation: Callable[..., float] | str, better: str = "higher") -> dict[str, Any]:
    how = aggregation if isinstance(aggregation, str) else _function(aggregation)
    return {"metric": name, "aggregation": how, "higher_is_better": better == "higher"}


def _function(function: Callable[..., Any]) -> _Function:
    return _Function(f"{function.__module__}.{function.__name__}")


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 where all went well."""
    parser = CommandParser(
        prog="python -m benchmark.harnesses.lmms_export",
        description=__doc__,
    )
    parser.add_argument("cases", help="file of cases")
    parser.add_argument("--out", required=True, help="folder to write, for lmms-eval's --include_path")
    options = parser.parse_args(arguments)
    cases, wrong = read_cases(options.cases), check_images(options.cases)
    if wrong:
        raise wrong[0]
    names = export(cases, options.out)
    print(f"{options.out}: {len(cases)} cases, tasks {', '.join(names)}")
    print(
        f"lmms-eval --include_path {options.out} --tasks {','.join(names)} --model mgll_graft --model_args pretrained=DIR"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
