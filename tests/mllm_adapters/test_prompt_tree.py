"""Every way to score many prompts at once gives what the processor and a plain forward pass give to each alone."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from scored_question import last_logits
from tiny.any_host import save_tiny

from benchmark.scorers.scorer import Ask
from benchmark.scorers.transformers_scorer import TransformersScorer
from benchmark.stats.rotations import as_asked
from mgll.images.preprocessing import open_image
from mllm_adapters.ask import ask
from mllm_adapters.contract.host import Host, LoadedHost
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading.load import load
from mllm_adapters.prompting import rows
from mllm_adapters.prompting.answer_slot import continuation_ids, forward_options, letter_ids
from mllm_adapters.prompting.encoding import encode_prompts
from mllm_adapters.prompting.rows import replies, row_log_probs
from mllm_adapters.prompting.scoring import log_probs
from mllm_adapters.prompting.tree import PromptTree, _plant, tree_log_probs

OPTIONS = ("Drusen", "Glaucoma", "Media Haze", "No Age-related Macular Degeneration")
WORDINGS = ("What is it?", "What diagnosis is most likely, then?")


@pytest.fixture(scope="module", params=HOSTS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedHost:
    return load(save_tiny(request.param, tmp_path_factory.mktemp("host") / request.param))


@pytest.fixture
def asks(photographs: list[Path]) -> list[Ask]:
    return [
        Ask(open_image(path), wording, tuple(as_asked(OPTIONS, rotation) for rotation in range(4)))
        for path, wording in zip(photographs, WORDINGS, strict=False)
    ]


def plain_log_probs(loaded: LoadedHost, image: Image.Image, prompt: str, ids: list[int]) -> list[float]:
    """Of each token of a continuation, by as many forward passes over the prompt and what has been said."""
    found: list[float] = []
    inputs = loaded.processor(images=[image], text=[prompt], return_tensors="pt")
    texts = {name: value for name, value in inputs.items() if value.shape[:2] == inputs["input_ids"].shape}
    for index, token in enumerate(ids):
        grown = {name: _grown(loaded.host, name, value, ids[:index]) for name, value in texts.items()}
        options = forward_options(loaded.model, loaded.host, grown["attention_mask"], keep=1)
        logits = loaded.model(**{**inputs, **grown}, **options).logits[0, -1]
        found.append(float(logits.log_softmax(-1)[token]))
    return found


def _grown(host: Host, name: str, value: torch.Tensor, said: list[int]) -> torch.Tensor:
    """An input as long as the text, with what it holds for tokens behind the prompt."""
    held = {"input_ids": said, "attention_mask": [1] * len(said)}
    behind = held.get(name, [host.behind_prompt(name, value[0, -1].tolist())] * len(said))
    return torch.cat((value, torch.tensor([behind]).to(value)), 1) if said else value


def test_letters_are_those_of_each_prompt_alone(loaded: LoadedHost, asks: list[Ask]) -> None:
    host, tokenizer = loaded.host, loaded.processor.tokenizer
    encoded = [encode_prompts(loaded, a.image, [host.prompt(text) for text in a.texts]) for a in asks]
    if not host.second_text:
        assert all(0 < case.shared < len(case.ids[0]) for case in encoded)
    with torch.inference_mode():
        found = log_probs(loaded, encoded, [[[] for _ in case.prompts] for case in encoded])
    for a, case, prompts in zip(asks, encoded, found, strict=True):
        for prompt, (slot,) in zip(case.prompts, prompts, strict=True):
            expected = last_logits(loaded, [a.image], [prompt])[0].log_softmax(-1)
            torch.testing.assert_close(slot, expected, atol=1e-4, rtol=0)
        first, second = (
            prompts[rotation][0][list(letter_ids(tokenizer, case.prompts[0], _answers(loaded)))] for rotation in (0, 1)
        )
        assert not torch.equal(first, second)


def test_options_are_scored_token_by_token(loaded: LoadedHost, asks: list[Ask]) -> None:
    if loaded.model.config.get_text_config().is_encoder_decoder:
        pytest.skip("the decoder's text is not the prompt's continuation")
    (one, _), host = asks, loaded.host
    case = encode_prompts(loaded, one.image, [host.prompt(text) for text in one.texts])
    tokenizer = loaded.processor.tokenizer
    ids = continuation_ids(tokenizer, case.prompts[0], [host.answer(option) for option in OPTIONS])
    assert len({len(option) for option in ids}) > 1
    with torch.inference_mode():
        found = log_probs(loaded, [case], [[ids] * 4])[0]
    last_prompt = found[3]
    for option, tokens in zip(ids, last_prompt[1:], strict=True):
        if host.second_text:  # its second text must not hold the answer, so there is no prompt with a part of it
            continue
        with torch.inference_mode():
            expected = plain_log_probs(loaded, one.image, case.prompts[3], option[:3])
        assert tokens[:3].tolist() == pytest.approx(expected, abs=1e-3)
        assert len(tokens) == len(option)
    assert last_prompt[1][0] == pytest.approx(float(last_prompt[0][ids[0][0]]), abs=1e-4)


def test_rows_give_what_the_tree_gives(loaded: LoadedHost, asks: list[Ask]) -> None:
    if loaded.host.whole_prompts:
        pytest.skip("its prompts share no pass")
    host, tokenizer = loaded.host, loaded.processor.tokenizer
    encoded = [encode_prompts(loaded, a.image, [host.prompt(text) for text in a.texts[:2]]) for a in asks]
    ids = continuation_ids(tokenizer, encoded[0].prompts[0], [host.answer(option) for option in OPTIONS])
    wanted = [[ids, ids] for _ in encoded]
    with torch.inference_mode():
        trees, whole = tree_log_probs(loaded, encoded, wanted), row_log_probs(loaded, encoded, wanted)
    for tree_case, row_case in zip(trees, whole, strict=True):
        for tree_prompt, row_prompt in zip(tree_case, row_case, strict=True):
            for by_tree, by_row in zip(tree_prompt, row_prompt, strict=True):
                torch.testing.assert_close(by_tree, by_row, atol=1e-4, rtol=0)


def test_limb_by_limb_is_the_masked_attention(loaded: LoadedHost, asks: list[Ask]) -> None:
    if loaded.host.whole_prompts:
        pytest.skip("its prompts share no pass")
    encoded = [encode_prompts(loaded, a.image, [loaded.host.prompt(text) for text in a.texts]) for a in asks]
    assert len({case.shared for case in encoded}) > 1, "trees of one length would pad nothing"
    wanted = [[[[1, 2, 3], [4]] for _ in case.prompts] for case in encoded]
    config = loaded.model.get_decoder().config.get_text_config()
    with torch.inference_mode():
        by_limbs = tree_log_probs(loaded, encoded, wanted)
        assert config._attn_implementation == "sdpa"
        config._attn_implementation = "eager"
        try:
            masked = tree_log_probs(loaded, encoded, wanted)
        finally:
            config._attn_implementation = "sdpa"
        at_once = tree_log_probs(loaded, encoded, wanted, "mask")
    torch.testing.assert_close(by_limbs, masked, atol=1e-4, rtol=0)
    torch.testing.assert_close(by_limbs, at_once, atol=1e-4, rtol=0)


def test_replies_in_a_batch_are_those_alone(
    loaded: LoadedHost, asks: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = [encode_prompts(loaded, a.image, [loaded.host.prompt(text) for text in a.texts[:2]]) for a in asks]
    tower = loaded.model.get_submodule(loaded.host.tower)
    with torch.inference_mode():
        together = replies(loaded, encoded, 4)
    assert loaded.model.get_submodule(loaded.host.tower) is tower
    for a, said in zip(asks, together, strict=True):
        assert said == [ask(loaded, a.image, text, max_new_tokens=4) for text in a.texts[:2]]
    monkeypatch.setattr(rows, "WRITTEN_AT_ONCE", 3)
    with torch.inference_mode():
        assert replies(loaded, encoded, 4) == together  # 3 rows, then the last alone


def test_views_of_the_scorer(loaded: LoadedHost, asks: list[Ask]) -> None:
    scorer = TransformersScorer(loaded.directory)
    every = scorer.score(asks, ["letter", "text", "option"])
    letters = scorer.score(asks[1:], ["letter"])
    assert [score.log_probs for score in every[1]] == [pytest.approx(score.log_probs, abs=1e-4) for score in letters[0]]
    assert all(score.option_log_probs is None for score in letters[0])
    assert all(max(score.option_log_probs) < 0 for scores in every for score in scores)
    assert [score.prompt for score in every[0]] == [loaded.host.prompt(text) for text in asks[0].texts]


def test_a_tree_sees_what_leads_to_it() -> None:
    tree = PromptTree()
    root = tree.grow([7, 8])
    left, right = tree.grow([1, 2], root), tree.grow([3], root)
    leaf = tree.grow([4], right)
    assert (tree.ids, tree.depth) == ([7, 8, 1, 2, 3, 4], [0, 1, 2, 3, 2, 3])
    assert tree.visible().int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]
    assert [list(tree.places[branch]) for branch in (root, left, right, leaf)] == [[0, 1], [2, 3], [4], [5]]
    assert tree.limbs() == [range(2), range(2, 4), range(4, 6)]


def test_limbs_of_prompts_without_a_common_start_hold_what_leads_to_their_tokens() -> None:
    tree = PromptTree()
    for _ in range(3):
        tree.grow([5], tree.grow([1, 2]))
    first, *others = tree.limbs()
    seen = tree.visible()
    for limb in others:
        hidden = [place for place in range(len(tree.ids)) if place not in first and place not in limb]
        assert not seen[limb.start : limb.stop][:, hidden].any()
    assert [place for limb in (first, *others) for place in limb] == list(range(9))


def test_a_tree_holds_every_prompt_and_what_some_have_in_common_once() -> None:
    generator = random.Random(0)
    for _ in range(200):
        texts = [tuple(generator.choices((1, 2, 3), k=generator.randint(1, 6))) for _ in range(generator.randint(1, 9))]
        case = EncodedPrompts(tuple(map(str, texts)), tuple(map(list, texts)), {}, {})
        wanted = [[[8, 9], [7]] for _ in texts]
        tree, places = _plant(case, wanted)
        seen = tree.visible()
        for ids, (slot, longer, shorter) in zip(case.ids, places, strict=True):
            assert [tree.ids[place] for place in seen[slot[0]].nonzero().flatten()] == ids
            assert tree.depth[slot[0]] == len(ids) - 1
            assert shorter == slot
            assert [tree.ids[place] for place in seen[longer[-1]].nonzero().flatten()] == [*ids, 8]
        assert len({slot[0] for slot, *_ in places}) == len(texts)
        first, *others = tree.limbs()
        assert [place for limb in (first, *others) for place in limb] == list(range(len(tree.ids)))
        for limb in (first, *others):
            hidden = [place for place in range(len(tree.ids)) if place not in first and place not in limb]
            assert not seen[limb.start : limb.stop][:, hidden].any()
    orders = [[5, 6, *order, 9] for order in itertools.permutations(range(10, 14))]
    tree, _ = _plant(EncodedPrompts(("",) * 24, tuple(orders), {}, {}), [[]] * 24)
    # two options left, of which the first decides the second; each ending keeps its last token
    assert len(tree.ids) == 2 + 4 + 12 + 24 + 24 + 24
    assert len(tree.limbs()) == 1 + 4


def _answers(loaded: LoadedHost) -> list[str]:
    return [loaded.host.answer(letter) for letter in "ABCD"]
