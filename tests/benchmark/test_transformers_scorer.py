"""A real LLaVA (tiny, random weights) through the scoring interface: batches, letters, images, fingerprint."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from benchmark import run_mcq
from benchmark.cases.case import write_cases
from benchmark.cases.images import open_case_image
from benchmark.predictions.batches import Asking
from benchmark.predictions.file import read_run
from benchmark.predictions.scoring import score_cases
from benchmark.scorers.scorer import Ask
from benchmark.scorers.transformers_scorer import TransformersScorer, directory_fingerprint
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.questions import LETTERS, question_text
from mllm_adapters.hosts.registry import get_host

HOST = get_host("llava")
SIZE, PATCH = 32, 8


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Path:
    """A LLaVA directory whose vocabulary is every word that a question can hold."""
    questions = [HOST.prompt(question_text(wording, ["A", "B", "C", "D"])) for wording in ("What is most likely?",)]
    words = {word for text in [*questions, *(d.name for d in diseases().values())] for word in _split(text)}
    words |= {"reasonable", "probable", "diagnosis", "the"}
    vocabulary = {
        word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", "<image>", *sorted(words)])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=SIZE, patch_size=PATCH),
        text_config=LlamaConfig(**size, vocab_size=len(fast), max_position_embeddings=512, initializer_range=0.3),
        image_token_index=vocabulary["<image>"],
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    processor = LlavaProcessor(
        LlavaImageProcessor(size={"height": SIZE, "width": SIZE}, do_center_crop=False, do_pad=True),
        fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    folder = tmp_path_factory.mktemp("hosts") / "tiny-llava"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _split(text: str) -> list[str]:
    return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text.replace("<image>", ""))]


@pytest.fixture(scope="module")
def asked(coloured_cases):
    cases = coloured_cases(24)
    return [Ask(open_case_image(case), case.question, (case.options,)) for case in cases]


def letters(scorer, asks):
    return [scores[0] for scores in scorer.score(asks, ["letter"])]


def test_a_batch_scores_as_single_questions_do(host, asked):
    scorer = TransformersScorer(host)
    assert len({len(_split(ask.texts[0])) for ask in asked}) > 1, "questions of one length would pad nothing"
    alone = [letters(scorer, [ask])[0] for ask in asked]
    for size in (5, 24):
        batched = [score for first in range(0, 24, size) for score in letters(scorer, asked[first : first + size])]
        for one, many in zip(alone, batched, strict=True):
            assert one.log_probs == pytest.approx(many.log_probs, abs=1e-4)
            assert max(range(4), key=one.log_probs.__getitem__) == max(range(4), key=many.log_probs.__getitem__)
            assert (one.text, one.prompt) == (many.text, many.prompt)


def test_the_scores_are_the_models_own_letter_probabilities(host, asked):
    score = letters(TransformersScorer(host), asked[:3])[1]
    model = LlavaForConditionalGeneration.from_pretrained(host).eval()
    processor = LlavaProcessor.from_pretrained(host)
    inputs = processor(images=asked[1].image, text=HOST.prompt(asked[1].texts[0]), return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    expected = logits[processor.tokenizer.convert_tokens_to_ids(list(LETTERS))].softmax(-1)
    assert [math.exp(value) for value in score.log_probs] == pytest.approx(expected.tolist(), abs=1e-4)
    assert score.text == processor.tokenizer.decode(logits.argmax())
    assert score.prompt == HOST.prompt(asked[1].texts[0])


def test_the_letters_mass_is_their_share_of_the_whole_vocabulary(host, asked, coloured_cases, tmp_path):
    score = letters(TransformersScorer(host), asked[:3])[1]
    model = LlavaForConditionalGeneration.from_pretrained(host).eval()
    processor = LlavaProcessor.from_pretrained(host)
    inputs = processor(images=asked[1].image, text=HOST.prompt(asked[1].texts[0]), return_tensors="pt")
    with torch.no_grad():
        whole = model(**inputs).logits[0, -1].softmax(-1)
    expected = whole[processor.tokenizer.convert_tokens_to_ids(list(LETTERS))].sum()
    assert 0 < score.letter_mass < 1
    assert score.letter_mass == pytest.approx(float(expected), rel=1e-3)
    run = score_cases(coloured_cases(4), TransformersScorer(host), tmp_path)
    assert all(0 < row.letter_mass < 1 for row in run.predictions)


def test_equal_logits_in_bfloat16_stay_equal_and_others_stay_apart(host, asked):
    """Two letters with the same row of the output matrix have the same logit in any precision."""
    scorer = TransformersScorer(host)
    scorer._loaded.model.to(torch.bfloat16)
    ids = scorer._loaded.processor.tokenizer.convert_tokens_to_ids(list(LETTERS))
    head = scorer._loaded.model.get_output_embeddings().weight
    with torch.no_grad():
        head[ids[2]] = head[ids[0]]
    for score in letters(scorer, asked[:4]):
        a, b, c, d = score.log_probs
        assert a == c
        assert len({a, b, d}) == 3
        assert math.fsum(map(math.exp, score.log_probs)) == pytest.approx(1, abs=1e-6)


def test_weights_that_are_not_finite_end_in_one_line(host, coloured_cases, tmp_path):
    scorer = TransformersScorer(host)
    with torch.no_grad():
        scorer._loaded.model.get_output_embeddings().weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^tiny-llava, case case-\d{3}, rotation 0: .* not finite \(nan, [^\n]*$"):
        score_cases(coloured_cases(4), scorer, tmp_path)


def test_the_image_and_the_order_of_the_options_matter(host, asked):
    scorer = TransformersScorer(host, name="tiny")
    first = asked[0]
    seen, blank = letters(scorer, [first, first._replace(image=Image.new("RGB", (50, 50)))])
    assert seen.log_probs != pytest.approx(blank.log_probs, abs=1e-3)
    other = letters(scorer, [asked[1]._replace(image=first.image)])[0]
    assert other.log_probs != pytest.approx(seen.log_probs, abs=1e-3)


def test_a_run_and_its_batch_size(host, coloured_cases, tmp_path):
    cases = coloured_cases(12)
    few, many = (
        score_cases(cases, TransformersScorer(host), tmp_path / str(size), Asking(batch_size=size)) for size in (1, 8)
    )
    assert few.header == many.header
    assert few.header["model"] == "tiny-llava"
    assert [row.chosen for row in few.predictions] == [row.chosen for row in many.predictions]


def test_the_fingerprint_follows_weights_and_configuration_only(host):
    first = directory_fingerprint(host)
    (host / "README.md").write_text("a card")
    (host / "demo_host.json").write_text('{"provenance": {"git": "abc"}}')
    second = directory_fingerprint(host)
    (host / "demo_host.json").write_text('{"provenance": {"git": "def"}}')
    assert directory_fingerprint(host) == second
    (host / "demo_host.json").unlink()
    assert directory_fingerprint(host) == first
    config = host / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"vision_feature_layer": -2', '"vision_feature_layer": -1'))
    assert directory_fingerprint(host) != first
    config.write_text(text)
    weights = host / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert directory_fingerprint(host) != first
    weights.write_bytes(content)
    assert directory_fingerprint(host) == first


def test_a_run_in_another_precision_shares_no_file_with_the_first(host, coloured_cases, tmp_path, capsys):
    write_cases(tmp_path / "cases.jsonl", coloured_cases(4, tmp_path))
    command = ["--model", str(host), "--cases", str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "out")]
    for dtype in ("float32", "float32", "bfloat16"):
        assert run_mcq.main([*command, "--dtype", dtype]) == 0
        assert ("made with other dtype; starting anew" in capsys.readouterr().err) == (dtype == "bfloat16")
        assert read_run(tmp_path / "out").header["dtype"] == dtype
        assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["dtype"] == dtype
    assert read_run(tmp_path / "out" / "predictions.old-1.jsonl").header["dtype"] == "float32"
