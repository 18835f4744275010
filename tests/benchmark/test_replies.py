"""The parser of text replies against a corpus of replies, and against what must hold for every reply.

`replies.jsonl` holds one reply a line: `text` as a model wrote it, the `choice` that it names (null: none), `tags`, and the
`options` in the order in which they were lettered. The tag `missed` marks replies of which a reader would make an answer
while the parser, on purpose, does not.
"""

import json
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from generated_replies import Style, generated, read_styles
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.replies.lexicon import LANGUAGES, lexicon_of
from benchmark.replies.parsing import LONGEST, Reply, parse_reply
from mgll.vocabulary.diseases import diseases
from mgll.vocabulary.questions import LETTERS, question_text

STYLES = read_styles(Path(__file__).parent / "replies_styles.txt")
HELD_OUT = read_styles(Path(__file__).parent / "replies_styles_held_out.txt")
CORPUS = [json.loads(line) for line in (Path(__file__).parent / "replies.jsonl").read_text("utf-8").splitlines()]
OPTIONS = ("Glaucoma", "Drusen", "Cataract", "Diabetic Retinopathy")
TEXT_TEMPLATES = (
    "{}", "{}.", "**{}**", "Diagnosis: {}", "The diagnosis is {}.", "The most likely diagnosis is {}.", "This is {}.",
    "The fundus photograph shows {}.", "The correct answer is {}, given the fundus image.", "I think it is {}.", "{}\n",
)  # fmt: skip
LETTER_TEMPLATES = (
    "{}", "({})", "**{}**", "{}.", "Answer: {}", "The answer is {}.", "The correct option is: **{}**", "Option {}.",
    "答案是{}", "Die richtige Antwort ist {}.", "\\boxed{{{}}}", "<answer>{}</answer>", '{{"answer": "{}"}}', "{}</s>",
    "<think>A, B, C or D?</think>\n{}", "{}\n\nQuestion: Which eye?\nAnswer: A",
)  # fmt: skip
STATED_TEMPLATES = (
    "The answer is {}.", "Answer: {}.", "The correct option is: **{}**.", "{} is correct.", "I choose {}.", "答案是{}。",
    "Therefore, {}.", "La respuesta correcta es {}.", "The most likely diagnosis is {}.",
)  # fmt: skip
NEUTRAL = (
    "the", "image", "shows", "answer", "diagnosis", "is", "likely", "most", "optic", "disc", "macula", "normal", "no", "not",
    "of", "and", "or", "option", "correct", "because", "retina", "signs", "this", "it", "therefore", "sorry", "12", "0.8", ":",
    ",", ".", "?", "!", "(", ")", "**", "\n", "✅", "答案是", "ответ", "réponse", "à", "é",
)  # fmt: skip

any_options = st.lists(
    st.sampled_from([disease.name for disease in diseases().values()]), min_size=4, max_size=4, unique=True
)
letters = st.sampled_from(LETTERS)


def choice_of(reply: Reply) -> str | None:
    return None if reply.choice is None else LETTERS[reply.choice]


def test_every_reply_of_the_corpus():
    wrong = [
        f"line {line}, {', '.join(row['tags'])}: {row['text'][:200]!r} with {row['options']} is {row['choice']}, not {found}"
        for line, row in enumerate(CORPUS, start=1)
        if choice_of(found := parse_reply(row["text"], row["options"])) != row["choice"]
    ]
    assert not wrong, f"{len(wrong)} of {len(CORPUS)} replies are read wrongly:\n" + "\n".join(wrong)


def test_the_corpus_covers_what_models_write():
    tags = [tag for row in CORPUS for tag in row["tags"]]
    at_least = {
        "verbose": 30, "hedged": 40, "two-letters": 30, "option-text": 50, "lower-case": 15, "markdown": 30, "refusal": 20,
        "negation": 40, "disagreement": 30, "continuation": 10, "not-a-letter": 30, "other-name": 30, "special-tokens": 15,
        "json": 5, "xml": 5, "latex": 5, "thinking": 5, "unicode": 15, "empty": 5, "restating": 10, "repetition": 5,
    }  # fmt: skip
    assert not {tag: tags.count(tag) for tag, count in at_least.items() if tags.count(tag) < count}
    languages = {tag for tag in tags if tag.startswith("language:")}
    assert len(languages) >= 12
    assert {f"language:{code}" for code in ("zh", "de", "fr", "es", "ru", "ja", "ko", "ar")} <= languages
    assert len({(row["text"], *row["options"]) for row in CORPUS}) == len(CORPUS) >= 320
    choices = [row["choice"] for row in CORPUS]
    assert all(choices.count(letter) > 60 for letter in LETTERS)
    assert choices.count(None) > 300
    assert not [row for row in CORPUS if "missed" in row["tags"] and row["choice"] is not None]


def read_of(styles: list[Style], count: int) -> tuple[list[str], float, str]:
    """Replies of some styles that are read wrongly, the share of their answers that is read, and that share by style."""
    replies, read, wrong = Counter(), Counter(), set()
    for reply in generated(styles, count, seed=0):
        found = choice_of(parse_reply(reply.text, reply.options))
        replies[reply.style] += 1
        read[reply.style] += found == reply.expected
        if found not in (reply.expected, None):
            wrong.add(f"{reply.style}, {reply.language}: {reply.text!r} is {reply.expected}, not {found}")
    answering = [style.name for style in styles if style.answers]
    recall = sum(read[style] for style in answering) / sum(replies[style] for style in answering)
    by_style = "\n".join(f"{read[style] / replies[style]:.0%} {style}" for style in answering)
    return sorted(wrong), recall, by_style


@pytest.mark.slow
def test_ten_thousand_generated_replies_are_never_read_wrongly_and_seldom_missed():
    wrong, recall, by_style = read_of(STYLES, 10_000)
    assert not wrong, f"{len(wrong)} replies are read wrongly:\n" + "\n".join(wrong[:60])
    assert recall > 0.95, f"{recall:.1%} of the answers are read, by style:\n{by_style}"


def test_of_styles_that_the_parser_was_not_made_for_none_is_read_wrongly():
    wrong, recall, by_style = read_of(HELD_OUT, 2_000)
    assert not wrong, f"{len(wrong)} replies are read wrongly:\n" + "\n".join(wrong[:60])
    assert recall > 0.85, f"{recall:.1%} of the answers are read, by style:\n{by_style}"


def test_the_styles_cover_ten_languages():
    assert len(STYLES) >= 250
    assert len(HELD_OUT) >= 16
    assert len({style.name for style in (*STYLES, *HELD_OUT)}) == len(STYLES) + len(HELD_OUT)
    for styles in (STYLES, HELD_OUT):
        assert len({language for style in styles for language, _ in style.templates}) >= 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("B", "letter"),
        ("Drusen.", "option text"),
        ("  ", "empty"),
        ("<|im_end|>", "empty"),
        ("I'm sorry, but I cannot provide a diagnosis.", "refusal"),
        ("It could be B, but D is more likely.", "hedged"),
        ("The answer is B. The answer is C.", "two answers"),
        ("A, B", "two answers"),
        ("B. Glaucoma", "letter and text disagree"),
        ("Not B", "no answer stated"),
        ("2", "no option named"),
        ("E", "no option named"),
        ("None of the above", "no option named"),
    ],
)
def test_the_reason_says_how_or_why_not(text, reason):
    assert parse_reply(text, OPTIONS).reason == reason


@given(options=any_options, data=st.data(), template=st.sampled_from(TEXT_TEMPLATES))
@settings(max_examples=150, deadline=None)
def test_permuting_the_options_permutes_an_answer_by_name(options, data, template):
    answer = data.draw(st.sampled_from(options))
    permuted = data.draw(st.permutations(options))
    reply = template.format(data.draw(st.sampled_from([answer, answer.lower()])))
    assert parse_reply(reply, options) == Reply(options.index(answer), "option text")
    assert parse_reply(reply, permuted) == Reply(permuted.index(answer), "option text")


@given(options=any_options, letter=letters, template=st.sampled_from(LETTER_TEMPLATES))
@settings(max_examples=150, deadline=None)
def test_a_letter_means_the_option_in_its_place(options, letter, template):
    assert parse_reply(template.format(letter), options) == Reply(LETTERS.index(letter), "letter")


@given(options=any_options, beside=letters, letter=letters, separator=st.sampled_from([". ", ") ", ": ", " - ", " "]))
@settings(max_examples=150, deadline=None)
def test_a_letter_beside_a_name_counts_only_if_both_mean_the_same(options, beside, letter, separator):
    found = parse_reply(f"{letter}{separator}{options[LETTERS.index(beside)]}", options)
    assert choice_of(found) == (letter if letter == beside else None)


@given(first=letters, second=letters, templates=st.tuples(*[st.sampled_from(STATED_TEMPLATES)] * 2), data=st.data())
@settings(max_examples=200, deadline=None)
def test_two_statements_answer_only_if_they_agree(first, second, templates, data):
    text = data.draw(st.sampled_from([" ", "\n", ", ", "; ", " but ", "\n\nHowever, "])).join(
        template.format(letter) for template, letter in zip(templates, (first, second), strict=True)
    )
    found = choice_of(parse_reply(text, OPTIONS))
    assert found in ((first, None) if first == second else (None,))


@given(letter=letters, lower=st.booleans(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_surroundings_never_change_a_bare_letter(letter, lower, data):
    before, after = data.draw(
        st.sampled_from([("", ""), ("**", "**"), ("`", "`"), ("*", "*"), ("__", "__"), ("(", ")"), ("> ", "")])
    )
    space = st.text(" \t\n\u00a0\u3000\u200b", max_size=5)
    text = data.draw(space) + before + (letter.lower() if lower else letter) + after + data.draw(space)
    assert parse_reply(text, OPTIONS) == Reply(LETTERS.index(letter), "letter")


@given(
    words=st.lists(
        st.sampled_from(NEUTRAL),
        max_size=40,
    )
)
@settings(max_examples=300, deadline=None)
def test_a_reply_without_letter_and_name_names_nothing(words):
    assert parse_reply(" ".join(words), OPTIONS).choice is None


@pytest.mark.slow
@given(
    pieces=st.lists(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from([*LETTERS, *OPTIONS, *STATED_TEMPLATES, "<think>", "</s>", "or", "not", "\n"]),
        ),
        max_size=15,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_the_same_way_whatever_the_random_state(pieces, seed):
    text = " ".join(pieces)
    random.seed(seed)
    np.random.seed(seed)
    first = parse_reply(text, OPTIONS)
    random.seed(seed + 1)
    assert parse_reply(text, OPTIONS) == first
    assert (first.choice is not None) == (first.reason in ("letter", "option text"))
    assert first.choice in (None, 0, 1, 2, 3)


@pytest.mark.parametrize("question", ["What diagnosis is most likely?", "What is the most reasonable diagnosis?"])
def test_a_question_that_comes_back_is_no_answer_but_what_follows_it_is(question):
    asked = question_text(question, OPTIONS)
    assert parse_reply(asked, OPTIONS).choice is None
    assert parse_reply(f"{asked}\nC", OPTIONS) == Reply(2, "letter")


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "answer ", "answer is is ", "the answer is A, ", "B. ", "B B ", "B or ", "A, ", "drusen ", "image ",
        "The image shows drusen. ", "(", "a)",
        "<think>", "<answer>", "\\boxed{", "\\text{", "**", "~~", "\n ", " ", "!", "non-proliferative ", "Q: ", "<|im_end|>",
        "答案是", "答案是B", "'", "the option ", "either ", "A. Glaucoma\n", "e\u0301", "{", "is the most likely ", "aaaa-",
    ],
)  # fmt: skip
def test_hostile_replies_take_linear_time(piece):
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length] + "\x00B!"
        start = time.process_time()
        parse_reply(text, OPTIONS)
        return time.process_time() - start

    short, long = min(seconds(10_000) for _ in range(2)), seconds(100_000)
    assert long < max(30 * short, 0.1), f"100 kB take {long:.2f} s, 10 kB {short:.3f} s"
    assert long < 2, f"100 kB take {long:.2f} s"


def test_only_what_follows_the_reasoning_has_a_longest_length():
    reasoning = "The disc is pale. " * LONGEST
    assert parse_reply(f"<think>{reasoning}</think>B", OPTIONS) == Reply(1, "letter")
    assert parse_reply("The disc is pale. " * (LONGEST // 18) + "\nAnswer: B", OPTIONS).choice in (1, None)
    assert parse_reply(f"{reasoning}\nAnswer: B", OPTIONS) == Reply(None, "too long")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is B.", 1),
        ("The answer is B, frabjously.", None),
        ("The frabjous answer is B.", None),
        ("The Jabberwock: the answer is B.", None),
        ("Through the tulgey wood, the answer is B.", None),
        ("The answer is B. It came whiffling.", None),
        ("The disc is frabjously pale, so the answer is B.", 1),
        ("Die slithy Antwort ist B.", None),
        ("正确答案是囧B。", None),
    ],
)
def test_what_is_not_wholly_understood_states_nothing(text, expected):
    assert parse_reply(text, OPTIONS).choice == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_states_denies_and_describes(language):
    roles = frozenset().union(*lexicon_of(language).roles.values())
    assert roles >= {
        "answer",
        "right",
        "choose",
        "is",
        "left",
        "not",
        "wrong",
        "so",
        "because",
        "picture",
        "anatomy",
        "link",
    }


@pytest.mark.parametrize("options", [(), ("Glaucoma",), ("a", "b", "c", "d", "e")])
def test_other_than_four_options_is_an_error(options):
    with pytest.raises(ValueError, match="has 4 options"):
        parse_reply("A", options)


def test_options_that_spell_the_same_are_told_apart_by_letter_only():
    options = ("Optic Disc Edema", "Optic disk oedema", "Drusen", "Cataract")
    assert parse_reply("optic disc edema", options).choice is None
    assert parse_reply("B", options).choice == 1
    assert parse_reply("drusen", options).choice == 2


def test_options_of_any_kind():
    assert parse_reply("Yes.", ("No", "Yes", "Maybe", "Unknown")) == Reply(1, "option text")
    assert parse_reply("B", ("D", "C", "B", "A")) == Reply(1, "letter")
    assert parse_reply("hepatitis B", ("Hepatitis A", "Hepatitis B", "Hepatitis C", "None")) == Reply(1, "option text")
