"""The words of a four-option question, exactly as the paper's appendix prints them."""

from collections.abc import Sequence

LETTERS = "ABCD"

#: The three wordings of the paper's appendix D.4.
QUESTIONS = (
    "What is the most reasonable diagnosis?",
    "What diagnosis is most likely?",
    "What diagnosis is most probable?",
)

#: The instruction behind the options, which says how the model is to reply.
INSTRUCTION = "Answer with the option's letter from the given choices directly."


def question_text(question: str, options: Sequence[str]) -> str:
    """Return the text a model reads beside the image: wording, four lettered options, instruction.

    The host's own prompt (image token, system text, role markers) goes around this text and is added elsewhere.

    Args:
        question: the wording alone, e.g. one of `QUESTIONS`.
        options: four option texts in the order in which they get the letters A to D.

    Raises:
        ValueError: if there are not exactly four options.
    """
    if len(options) != len(LETTERS):
        raise ValueError(f"a question has {len(LETTERS)} options, found {len(options)}: {list(options)}")
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([question, *lettered, INSTRUCTION])
