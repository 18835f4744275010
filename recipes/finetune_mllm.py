r"""Fine-tune a host or a graft on four-option questions: LoRA on the language model, the connector in full, the tower if asked for.

    accelerate launch recipes/finetune_mllm.py --model runs/llava-mgll --cases train.jsonl --out runs/llava-mgll-tuned
    accelerate launch recipes/finetune_mllm.py --config recipes/configs/finetune_demo.yaml --model DIR --cases train.jsonl
    accelerate launch --num_processes 8 --use_deepspeed --deepspeed_config_file recipes/configs/zero3.json \
        recipes/finetune_mllm.py --model DIR --cases train.jsonl --gradient_accumulation_steps 4

Give host and graft the same cases, settings and seed. Killed runs resume when started again with the same settings.
"""

import sys
from dataclasses import dataclass, fields

from benchmark.cases.training import training_questions
from mgll.commandline import parse_settings
from mgll.ending import ends_in_one_line
from mgll.flags import as_typed
from mgll.formats import check_there
from mllm_adapters.loading.load import check_model
from mllm_adapters.settings import FinetuneSettings


@dataclass(frozen=True, kw_only=True)
class Run(FinetuneSettings):
    """One fine-tuning run: the settings, and which model learns which questions.

    Attributes:
        model: directory of a host or a graft.
        cases: questions to learn, as `python -m benchmark.cases build --split train` writes them.
        held_out_cases: questions of other patients that validate the run, beside those of `held_out`.
        captions: manifest whose training images and texts `align_epochs` goes through.
        chats: conversations in LLaVA's JSON, of which `chat_share` of each batch is drawn.
        chat_images: folder of their images; that of the file when not given.
        out: folder of the run; MODEL-tuned when not given.
    """

    model: str
    cases: str
    held_out_cases: str | None = None
    captions: str | None = None
    chats: str | None = None
    chat_images: str | None = None
    out: str | None = None


@ends_in_one_line
def main() -> None:
    """Parse the settings, turn cases into questions, train."""
    run = parse_settings(Run, __doc__ or "")
    check_there(run.model, run.cases, run.held_out_cases, run.captions, run.chats, run.chat_images)
    questions = training_questions(run.cases)
    check_model(run.model)
    # here, because torch takes seconds to import
    from mgll.training.distributed import first_process
    from mllm_adapters.finetuning.conversations import captions, read_conversations
    from mllm_adapters.finetuning.finetune import finetune

    settings = FinetuneSettings(**{field.name: getattr(run, field.name) for field in fields(FinetuneSettings)})
    chats, left_out = read_conversations(run.chats, run.chat_images) if run.chats else ([], {})
    out = finetune(
        run.model,
        questions,
        run.out or f"{run.model.rstrip('/')}-tuned",
        settings,
        captions=captions(run.captions) if run.captions else (),
        chats=chats,
        held_out=training_questions(run.held_out_cases) if run.held_out_cases else (),
    )
    with first_process() as is_first:
        if is_first:
            for reason, count in left_out.items():
                print(f"{run.chats}: {count} conversations were left out: {reason}")
            score = as_typed("python benchmark/run_mcq.py")
            print(f"{out}\nnext: {score} --model {out} --cases TEST_CASES.jsonl --out {out}-scores")


if __name__ == "__main__":
    sys.exit(main())
