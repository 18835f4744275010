"""Fine-tune a host or a graft on four-option questions: LoRA on the language model, the connector in full, the tower frozen.

    accelerate launch recipes/finetune_mllm.py --model runs/llava-mgll --cases train.jsonl --out runs/llava-mgll-tuned
    accelerate launch recipes/finetune_mllm.py --config recipes/configs/finetune_demo.yaml --model DIR --cases train.jsonl

Give host and graft the same cases, settings and seed. Killed runs resume when started again with the same settings.
"""

import sys
from dataclasses import dataclass, fields

from benchmark.cases.training import training_questions
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mllm_adapters.settings import FinetuneSettings


@dataclass(frozen=True, kw_only=True)
class Run(FinetuneSettings):
    """One fine-tuning run: the settings, and which model learns which questions.

    Attributes:
        model: directory of a host or a graft.
        cases: questions to learn, as `python -m benchmark.cases build --split train` writes them.
        out: folder of the run; MODEL-tuned when not given.
    """

    model: str
    cases: str
    out: str | None = None


@ends_in_one_line
def main() -> None:
    """Parse the settings, turn cases into questions, train."""
    run = parse_settings(Run, __doc__ or "")
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process
    from mllm_adapters.finetuning.finetune import finetune

    settings = FinetuneSettings(**{field.name: getattr(run, field.name) for field in fields(FinetuneSettings)})
    out = finetune(run.model, training_questions(run.cases), run.out or f"{run.model.rstrip('/')}-tuned", settings)
    with first_process() as is_first:
        if is_first:
            print(f"{out}\nnext: python benchmark/run_mcq.py --model {out} --cases TEST_CASES.jsonl --out {out}-scores")


if __name__ == "__main__":
    sys.exit(main())
