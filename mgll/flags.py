"""What the flags of every command have in common: one spelling, a sentence each, and one line for what is wrong."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

#: Below this likeness (1 is the same word) nothing is suggested for a flag that there is not.
LIKENESS = 0.6
#: While a command runs as `mgll NAME`: what commands are where that is not how they are typed -> what they are called there.
_names: Mapping[str, str] = {}


class OneSpelling(argparse.ArgumentParser):
    """A parser that shows flags with hyphens, takes underscores too, and says in one line what is wrong with a flag."""

    def spelled(self, arguments: Sequence[str]) -> list[str]:
        """The words of a command line with each flag as it was defined, `--min-images` or `--min_images`."""
        known = {hyphens(flag): flag for flag in self._option_string_actions}
        words = list(arguments)
        end = words.index("--") if "--" in words else len(words)
        for index, word in enumerate(words[:end]):
            flag, equals, value = word.partition("=")
            if flag.startswith("--") and flag not in self._option_string_actions:
                head, dot, field = flag.partition(".")  # a field of a setting that may be None is no flag of its own
                field = field.replace("-", "_")
                words[index] = known.get(hyphens(flag), known.get(hyphens(head), head) + dot + field) + equals + value
        return words

    def error(self, message: str, *cause: Any) -> NoReturn:
        """Say in one line what is wrong with the command line, and exit with status 2."""
        if not self.exit_on_error:  # a parser within another, whose error the outer one says
            super().error(message, *cause)
        print(f"error: {self.explained(message)} (--help says what there is)", file=sys.stderr)
        sys.exit(2)

    def explained(self, message: str) -> str:
        """What is wrong, on one line; a flag that there is not is shown with the one that was probably meant."""
        if unknown := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
            return self._unknown(unknown[1].split())
        message = re.sub(r"--[\w.-]+", lambda flag: hyphens(flag[0]), " ".join(message.split())).removesuffix(".")
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            return message + did_you_mean(wrong[1], re.findall(r"[\w.:-]+", wrong[2]))
        return message

    def _unknown(self, words: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        if not flags:
            return f"{' '.join(words)}: nothing here takes this"
        known = sorted({hyphens(flag) for parser in _with_subcommands(self) for flag in parser._option_string_actions})
        return "; ".join(f"there is no flag {flag}{did_you_mean(hyphens(flag), known)}" for flag in flags)


class FlagHelp(argparse.RawDescriptionHelpFormatter):
    """Help in which examples stay as they are typed, and each flag has a line of its own with its sentence below."""

    def __init__(self, prog: str, *arguments: Any, **options: Any) -> None:
        super().__init__(prog, *arguments, **{**options, "max_help_position": 8})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = super()._format_action_invocation(action)
        return re.sub(r"--[\w.-]+", lambda flag: hyphens(flag[0]), shown)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(as_typed(text), width, indent)

    def _expand_help(self, action: argparse.Action) -> str:
        return as_typed(super()._expand_help(action) or "")


class CommandParser(OneSpelling):
    """The parser of a command; its description is shown as it is written.

    Typed as `mgll NAME`, a command calls itself so in its help, whatever `prog` is.
    """

    def __init__(self, prog: str | None = None, description: str | None = None, **options: Any) -> None:
        options = {"formatter_class": FlagHelp, "allow_abbrev": False, **options}
        super().__init__(prog=typed_as() or prog, description=description, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None, **options: Any
    ) -> Any:
        """Parse as `argparse` does, after every flag has been spelled as it was defined."""
        return super().parse_known_args(self.spelled(sys.argv[1:] if args is None else args), namespace, **options)


def typed_as() -> str | None:
    """How this command was typed where that is `mgll NAME`, else None."""
    return sys.argv[0] if sys.argv and sys.argv[0].startswith("mgll ") else None


@contextmanager
def typed(name: str, words: Sequence[str], names: Mapping[str, str]) -> Iterator[None]:
    """While open, this process's words are those of `NAME WORDS…`; a caller of `main` gets its own back, whatever happens.

    Args:
        name: how the command was typed, `mgll NAME`.
        words: those after it.
        names: see `as_typed`; added to those of a command around this one.
    """
    global _names
    before, sys.argv, names_before, _names = sys.argv, [name, *words], _names, {**_names, **names}
    try:
        yield
    finally:
        sys.argv, _names = before, names_before


def names_of(modules: Mapping[str, str]) -> dict[str, str]:
    """What commands are where `mgll NAME` is not how they are typed -> NAME: `recipes/table2.py`, `-m mgll.manifest`.

    Args:
        modules: name -> the module of the command, such as `mgll.manifest.__main__`.
    """
    found = {f"-m {module.removesuffix('.__main__')}": name for name, module in modules.items()}
    scripts = {name: module for name, module in modules.items() if module.startswith(("recipes.", "benchmark."))}
    return found | {f"{module.replace('.', '/')}.py": name for name, module in scripts.items()}


def as_typed(text: str) -> str:
    """The text with its commands as this one was typed: `mgll table2` for `python recipes/table2.py` where that was `mgll NAME`.

    Whoever has the wheel alone has no folder `recipes/`.
    """
    if not _names:
        return text
    known = "|".join(re.escape(each).replace(r"\ ", r"\s+") for each in sorted(_names, key=len, reverse=True))
    launched = r"(?P<launch>accelerate launch\b(?:[^\n]|\\\n)*?\s)?"

    def renamed(found: re.Match[str]) -> str:
        return f"{found['launch'] + '-m ' if found['launch'] else ''}mgll {_names[' '.join(found['what'].split())]}"

    return re.sub(rf"{launched}(?:python\s+)?(?<![\w./])(?P<what>{known})(?![\w./])", renamed, text)


def hyphens(flag: str) -> str:
    """The flag as it is shown: `--min-images` for `--min_images`."""
    return flag.replace("_", "-")


def did_you_mean(said: str, known: Sequence[str]) -> str:
    """`; did you mean X?` for the word of `known` that is most like the one that was typed; empty where none is."""
    found = difflib.get_close_matches(said, known, 1, LIKENESS)
    return f"; did you mean {found[0]}?" if found else ""


def _with_subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
