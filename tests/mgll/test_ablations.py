"""The paper's ablation tables: each row trains, differs from the others as it says, and carries the paper's numbers."""

import json
from dataclasses import replace
from pathlib import Path

import launches
import numpy as np
import pandas as pd
import pytest
import tiny_text_models
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmark.leaderboard.ablation import ablation_result, write_ablation
from mgll.commandline import parse_settings
from mgll.evaluation.reading import Reading
from mgll.files import sha256
from mgll.formats import FormatError
from mgll.manifest.records import Record, read_manifest, write_manifest
from mgll.settings import PretrainSettings
from mgll.synthetic import generate
from mgll.tower.features import tower_features
from mgll.tower.file import read_header
from mgll.training.ablation_tables import read_table, row_settings
from mgll.training.data import text_levels
from mgll.training.pretraining import pretrain

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
TABLES = {path.stem: path for path in sorted((CONFIGS / "ablations").glob("*.yaml"))}
ROWS = [(table, row) for table, path in TABLES.items() for row in read_table(path).rows]
RECIPE = ["--config", str(CONFIGS / "paper_fundus.yaml")]
#: What makes each encoder and each text encoder of the tables small; all else of a row stays.
SMALL_VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SMALL_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
TEXT_MODELS = {"ClinicalBERT": "bert", "clip-vit-large": "clip", "Llama": "llama"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Sixteen embedded photographs; half of them also as if they were radiographs, with their three levels."""
    folder = tmp_path_factory.mktemp("eyes")
    records = list(read_manifest(generate(folder, 16, seed=0, size=64, progress=False)))
    rows = []
    for index, record in enumerate(records):
        fundus, xray = record.texts, (("CR", "DX")[index % 2], *record.texts.values())
        for kind, texts in (
            ("fundus", fundus),
            ("xray", dict(zip(("modality", "study", "series"), ((xray[0],), *xray[1:]), strict=True))),
        ):
            rows.append((kind, record.model_copy(update={"split": "train", "texts": texts})))
    for kind in ("fundus", "xray"):
        write_manifest(folder / f"{kind}.jsonl", [record for own, record in rows if own == kind])
    return folder


@pytest.fixture(scope="module")
def text_models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("texts")
    return {name: getattr(tiny_text_models, name)(folder / name) for name in TEXT_MODELS.values()}


def small(settings: PretrainSettings, manifest: Path, text_models: dict[str, str]) -> PretrainSettings:
    """A run of two steps that differs from the paper's in size alone."""
    convolutional = settings.encoder.startswith("convnext")
    (text_model,) = (made for part, made in TEXT_MODELS.items() if part in settings.text_encoder)
    return replace(
        settings,
        manifest=str(manifest),
        encoder_options=SMALL_CONVNEXT if convolutional else SMALL_VIT,
        text_encoder=text_models[text_model],
        image_size=112,
        feature_width=8,
        batch_size=8,
        epochs=1,
        workers=0,
        log_every=1,
        mixed_precision="no",
    )


@pytest.mark.slow_except(
    "table3_loss_terms-sCLIP + P + sKL",
    "table5_image_encoders-ConvNeXt-Base",
    "table6_text_encoders-CLIP text tower",
    "table6_text_encoders-LLaMA",
    "table8_text_quality-Error",
    "table38_mixed_granularity-study A, series B",
)
@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda value: value)
def test_every_row_trains(table, row, manifest, text_models, tmp_path):
    file = read_table(TABLES[table])
    full = row_settings(file, row, [*RECIPE, "--out", str(tmp_path)])
    settings = small(full, manifest / ("xray.jsonl" if "XR" in file.data else "fundus.jsonl"), text_models)
    header = read_header(pretrain(settings))
    lines = [json.loads(line) for line in (Path(settings.out) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines)
    terms = {"sclip": full.resolved_objective.sclip, "pointwise": full.resolved_objective.pointwise}
    terms["smooth_kl"] = full.resolved_objective.smooth_kl
    assert {name for name, weight in terms.items() if weight} == lines[0].keys() & terms.keys()
    assert lines[0]["loss"] == pytest.approx(sum(terms[name] * lines[0].get(name, 0.0) for name in terms), rel=1e-5)
    assert header.preprocessing.size == 112
    assert Path(settings.out).parent == tmp_path


@pytest.mark.parametrize("table", TABLES)
def test_rows_differ_in_what_the_table_is_about_and_in_nothing_else(table, tmp_path):
    about = {
        "table3": {"objective", "objective_settings"},
        "table4": {"objective", "objective_settings", "join_levels"},
        "table5": {"objective", "encoder", "pooling"},
        "table6": {"objective", "text_encoder", "text_training"},
        "table7": {"objective", "source_resolution"},
        "table8": {"objective", "wrong_texts", "missing_texts"},
        "table35": {"objective", "objective_settings"},
        "table36": {"objective", "objective_settings"},
        "table37": {"objective", "missing_texts"},
        "table38": {"granularity"},
    }[table.split("_")[0]]
    file = read_table(TABLES[table])
    rows = [row_settings(file, row, RECIPE) for row in file.rows]
    recipe = parse_settings(PretrainSettings, "", RECIPE)
    changed = {n for row in rows for n in vars(row) if getattr(row, n) != getattr(recipe, n)} - {"out"}
    assert changed <= about
    assert len({repr(replace(row, out="")) for row in rows} | {row.out for row in rows}) == 2 * len(rows)
    # the paper's own row is the recipe itself, whatever way it is written
    best = max(file.rows, key=lambda row: file.rows[row].probe)
    own = row_settings(file, best, RECIPE)
    if table != "table7_source_resolution":  # 512 px is the standard, but a source may be larger
        assert replace(own, out=recipe.out, objective_settings=None) == recipe
        assert own.resolved_objective == recipe.resolved_objective


def test_the_papers_numbers_are_those_of_the_paper():
    """Rows that several tables share, and the improvements that the text states."""
    rows = {(table, row): read_table(TABLES[table]).rows[row] for table, row in ROWS}
    for data in ("RFMiD", "MIDRC-XR-Portable"):
        tables = [read_table(path) for path in TABLES.values() if read_table(path).data == data]
        bests = {max((row.probe, row.tuned) for row in table.rows.values()) for table in tables}
        clips = {(row.probe, row.tuned) for table in tables for name, row in table.rows.items() if "CLIP" in name[:4]}
        clips = {own for own in clips if own[0][0] < 72 and own[0] != (68.93, 92.66, 22.14)}
        assert len(bests) == len(clips) == 1
    three, one = (rows["table4_granularity_count", name].probe for name in ("MGLL-3", "MGLL-1"))
    assert [round(a - b, 2) for a, b in zip(three, one, strict=True)] == [3.32, 2.09, 2.30]
    assert rows["table8_text_quality", "Missing"] == rows["table37_missing_texts", "MGLL, 20 % missing"]


def records(folder: Path, count: int = 24) -> Path:
    """Pictures with three levels, of which no two share a text."""
    random, made = np.random.default_rng(0), []
    for index in range(count):
        Image.fromarray(random.integers(0, 255, (200, 160, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        texts = {"modality": (f"m {index % 2}",), "study": (f"study {index % 3}",), "series": (f"s {index % 5}", "PA")}
        made.append(Record(image=f"{index}.png", split="train", group=f"{index}", texts=texts))
    write_manifest(folder / "manifest.jsonl", made)
    return folder / "manifest.jsonl"


@pytest.mark.slow
def test_one_granularity_is_all_texts_as_one_level_however_it_is_asked_for(tmp_path, text_models):
    manifest = records(tmp_path)
    table = read_table(TABLES["table4_granularity_count"])
    runs = {name: row_settings(table, name, [*RECIPE, "--out", str(tmp_path)]) for name in table.rows}
    joined = dict.fromkeys(("modality", "study", "series"), "all")
    runs["joined"] = replace(runs["MGLL-3"], out=str(tmp_path / "joined"), join_levels=joined)
    towers = {name: load_file(pretrain(small(run, manifest, text_models))) for name, run in runs.items()}

    def apart(a: str, b: str) -> float:
        return max(float((tensor - towers[b][name]).abs().max()) for name, tensor in towers[a].items())

    assert apart("MGLL-1", "joined") < 1e-5
    assert min(apart("MGLL-1", "MGLL-2"), apart("MGLL-2", "MGLL-3"), apart("MGLL-1", "CLIP")) > 1e-4


def test_joined_levels_keep_every_text(tmp_path):
    rows = read_manifest(records(tmp_path))
    levels = text_levels(rows, levels="separate", join={"modality": "examination", "study": "examination"})
    assert list(levels) == ["examination", "series"]
    for row, record in enumerate(rows):
        held = [levels["examination"].unique[index] for index in levels["examination"].of_record(row)]
        assert held == [*record.texts["modality"], *record.texts["study"]]
    with pytest.raises(ValueError, match="join_levels: no image has level organ; there are modality, study, series"):
        text_levels(rows, levels="separate", join={"organ": "study"})
    assert text_levels(rows, levels="caption", join={"organ": "study"}).keys() == {"caption"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"source_resolution": 64}, {"wrong_texts": 0.2}, {"missing_texts": 0.3}],
    ids=lambda change: next(iter(change)),
)
def test_worse_data_is_for_training_alone(change, tmp_path, text_models):
    """What is read, probed or scored later is neither scaled down nor changed."""
    manifest = records(tmp_path)
    before = sha256(manifest)
    run = small(parse_settings(PretrainSettings, "", [*RECIPE, "--out", str(tmp_path / "run")]), manifest, text_models)
    plain, worse = pretrain(run), pretrain(replace(run, out=str(tmp_path / "worse"), **change))
    assert sha256(manifest) == before
    assert read_header(plain).preprocessing == read_header(worse).preprocessing
    assert any(not torch.equal(tensor, load_file(worse)[name]) for name, tensor in load_file(plain).items())
    images = [record.image for record in read_manifest(manifest)]
    shrunk = []
    for index, image in enumerate(images):
        picture = Image.open(image)
        picture.thumbnail((64, 64))
        shrunk.append(str(tmp_path / f"small-{index}.png"))
        picture.save(shrunk[-1])
    assert np.abs(tower_features(worse, images) - tower_features(worse, shrunk)).max() > 1e-3


@pytest.mark.slow
def test_the_recipe_runs_rows_and_tells_of_all_that_are_done(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    from ablation import main

    manifest = records(tmp_path, 120)
    halves = [
        record.model_copy(
            update={"split": "train" if index < 80 else "val", "labels": (("Drusen",), ("Health",))[index % 2]}
        )
        for index, record in enumerate(read_manifest(manifest))
    ]
    write_manifest(manifest, halves)
    table = str(TABLES["table8_text_quality"])
    size = {"manifest": manifest, "out": tmp_path, "encoder": "vit-nano-16", "image_size": 32}
    size |= {"batch_size": 20, "epochs": 1, "feature_width": 8}
    flags = [part for name, value in size.items() for part in (f"--{name}", str(value))]
    main([table, "--only", "Error", "--seeds", "0", "1", *flags])
    main([table, "--only", "Missing", "--seeds", "0", *flags])
    said = (tmp_path / "summary.md").read_text()
    assert said in capsys.readouterr().out
    for row, setting, seed in (("error", "wrong_texts", 1), ("missing", "missing_texts", 0)):
        settings = json.loads((tmp_path / f"{row}-seed-{seed}" / "settings.json").read_text())
        assert (settings[setting], settings["seed"]) == (0.2, seed)
    results = pd.read_csv(tmp_path / "summary.csv").set_index("row")
    assert results.seeds.to_dict() == {"Error": 1, "Missing": 1}  # the last call was about one seed
    before = (tmp_path / "error-seed-0" / "mgll.ckpt").stat().st_mtime_ns
    main([table, "--only", "Error", "--seeds", "0", "1", *flags])
    assert (tmp_path / "error-seed-0" / "mgll.ckpt").stat().st_mtime_ns == before
    results = pd.read_csv(tmp_path / "summary.csv").set_index("row")
    assert results.seeds.to_dict() == {"Error": 2, "Missing": 1}
    assert results.loc["Error", "macro_auc"] == pytest.approx(
        np.mean([float(v) for v in results.by_seed["Error"].split()]), abs=1e-4
    )
    said = (tmp_path / "summary.md").read_text()
    assert "Read on 40 images of val, 2 classes; paper: MIDRC-XR-Portable." in said
    assert "| Standard | – | – | – | – | – | 83.86 | 89.06 | 30.62 | 99.75 | 98.80 | 89.87 |" in said
    main(
        [table, "--only", "Error", "--seeds", "0", "1", *flags, "--min-train", "50"]
    )  # probes again, and trains nothing
    assert (tmp_path / "error-seed-0" / "mgll.ckpt").stat().st_mtime_ns == before
    assert "no class has 50 training images" in capsys.readouterr().out
    assert (
        "Not done, or nothing could be read: CLIP; Error; Missing; Standard." in (tmp_path / "summary.md").read_text()
    )
    for arguments, message in (
        (["no.yaml"], "no such file"),
        ([table, "--only", "Errors", *flags], "no row Errors; there are: CLIP; Error; Missing; Standard"),
        ([table], "name a manifest"),
    ):
        assert main(arguments) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_rows_follow_each_other_on_two_processes(manifest, tmp_path, text_models):
    table = read_table(TABLES["table8_text_quality"])
    size = {"manifest": manifest / "fundus.jsonl", "out": tmp_path / "two", "text_encoder": text_models["bert"]}
    size |= {"encoder": "vit-nano-16", "image_size": 32, "batch_size": 8, "epochs": 1, "feature_width": 8}
    flags = [part for name, value in size.items() for part in (f"--{name}", str(value))]
    rows = ["--only", "Error", "--only", "Missing"]
    command = [CONFIGS.parent / "ablation.py", TABLES["table8_text_quality"], *rows, *flags]
    for process in launches.start_several(2, command, tmp_path / "said.txt", tmp_path / "errors.txt"):
        process.join(300)
        assert process.exitcode == 0, (tmp_path / "errors.txt").read_text()
    said = (tmp_path / "said.txt").read_text()
    assert said.count("no image of split 'test' has a label") + said.count("images have it") >= 2
    for row in ("Error", "Missing"):
        one = load_file(pretrain(replace(row_settings(table, row, flags), out=str(tmp_path / row))))
        two = load_file(tmp_path / "two" / row.lower() / "mgll.ckpt")
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-5)


def test_files_that_are_no_tables_are_refused(tmp_path):
    for content, message in (
        ("title: [", "not YAML"),
        ("title: x\npaper: y\ndata: z\nrows: {}\n", "field rows"),
        ("title: x\npaper: y\ndata: z\nrows: {a: {probe: [1, 2], tuned: [1, 2, 3]}}\n", r"field rows\.a\.probe"),
    ):
        (tmp_path / "t.yaml").write_text(content)
        with pytest.raises(FormatError, match=message):
            read_table(tmp_path / "t.yaml")


def reading(seed: int, signal: float) -> Reading:
    """The probe's reading of 60 patients, whose scores follow the truth the more, the greater the signal."""
    random = np.random.default_rng(7)
    truth = random.random((60, 2)) < 0.5
    scores = signal * truth + np.random.default_rng(seed).normal(size=(60, 2))
    images = tuple(f"{n}.png" for n in range(60))
    return Reading("probe", ("DR", "Drusen"), images, tuple(("", name) for name in images), truth, scores)


def test_a_page_sets_rows_over_their_seeds_beside_the_paper(tmp_path):
    table = read_table(TABLES["table36_temperature"])
    signals = dict(zip(table.rows, (0.2, 2.0, 1.0, 0.6, 3.0), strict=True))
    readings = {name: [reading(seed, signal) for seed in (1, 2, 3)] for name, signal in signals.items()}
    result = ablation_result(table, readings, "test")
    page = write_ablation(tmp_path, result).read_text()
    assert "Temperature (Table 36 of the paper)" in page
    assert page.count('<td class="paper">') == 5 * 6
    assert "Read on 60 images of test, 2 classes; paper: MIDRC-XR-Portable." in page
    assert "Kendall&#39;s tau 1.00, p 0.017" in page
    frame = pd.read_csv(tmp_path / "summary.csv").set_index("row")
    expected = np.mean([own.summary().auc for own in readings["MGLL, 0.05"]])
    assert frame.loc["MGLL, 0.05", "macro_auc"] == pytest.approx(expected, abs=1e-5)
    assert frame.loc["MGLL, 0.05", "paper_map"] == 30.49
    assert result.rows["CLIP, 0.07"].behind is None
    behind = result.rows["MGLL, 0.07"].behind
    assert behind is not None
    assert behind.estimate.low > 0
    assert behind.runs == (3, 3)
    markdown = (tmp_path / "summary.md").read_text()
    assert "AUC fine-tuned, paper" in markdown
    assert "| 99.75 | 98.80 | 89.87 |" in markdown
    assert r"\toprule" in (tmp_path / "summary.tex").read_text()


def test_a_page_of_some_rows_says_what_is_missing(tmp_path):
    table = read_table(TABLES["table36_temperature"])
    result = ablation_result(table, {"MGLL, 0.20": [reading(1, 1.0)]}, "val")
    assert result.rows["MGLL, 0.20"].behind is None
    said = " ".join(result.notes)
    assert "Not done, or nothing could be read: CLIP, 0.07; MGLL, 0.05; MGLL, 0.50; MGLL, 0.07." in said
    assert "With one seed a row is one set of weights" in said
    assert "Kendall" not in said
    assert "–" in write_ablation(tmp_path, ablation_result(table, {}, "val")).read_text()


def test_a_table_of_your_own_needs_no_numbers_of_the_paper(tmp_path, capsys, monkeypatch):
    (tmp_path / "own.yaml").write_text(
        "title: MGLL or CLIP\nrows: {CLIP: {settings: {objective: clip}}, MGLL: {}, mgll!: {}}\n"
    )
    table = read_table(tmp_path / "own.yaml")
    readings = {name: [reading(seed, 1.0)] for seed, name in enumerate(table.rows)}
    page = write_ablation(tmp_path, ablation_result(table, readings, "test")).read_text()
    assert "<h1>MGLL or CLIP</h1>" in page
    assert "of the paper" not in page
    assert page.count('<td class="paper">–</td>') == 3 * 6
    assert "Kendall" not in page
    assert pd.read_csv(tmp_path / "summary.csv").paper_auc.isna().all()
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    from ablation import main

    assert main([str(tmp_path / "own.yaml"), "--manifest", str(records(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert "two rows have one folder" in capsys.readouterr().err
