"""What of each host is tested, as the table at the end of docs/hosts.md.

    PYTHONPATH=tests python tests/mllm_adapters/host_table.py

writes it. A tick is a parameter of a test, read off the test itself; where a host has none, the reason must stand here, or there is
no table. `test_hosts_page.py` compares the page with it.
"""

import ast
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import test_export
import test_five_commands
import test_half_precision
import test_hosts

from mllm_adapters.hosts.registry import OWN_HOSTS, get_host

TESTS = Path(__file__).parent
PAGE = TESTS.parents[1] / "docs" / "hosts.md"
#: The table stands between this line and the next heading.
HEADING = "## What is tested of each host\n\n"
Test = Callable[..., None]
COMMANDS = test_five_commands.test_every_host_through_the_documented_commands
PRECISIONS = test_half_precision.test_every_host_in_every_precision
POLICIES = test_hosts.test_every_token_policy
EXPORTS = test_export.test_plain_transformers_without_this_package_says_the_same
#: Why a host lacks a tick: by its name and the test that it is no parameter of.
WITHOUT: dict[tuple[str, Test], str] = {}


def parameters(test: Test) -> list[dict[str, Any]]:
    """The arguments that pytest calls a test with, from its marks."""
    found = []
    for mark in test.pytestmark:  # type: ignore[attr-defined]
        if mark.name == "parametrize":
            names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
            rows = ([each] if len(names) == 1 else each for each in mark.args[1])
            found.append([dict(zip(names, row, strict=True)) for row in rows])
    return [{name: value for part in each for name, value in part.items()} for each in product(*found)]


def layouts() -> Iterator[tuple[str, str, str]]:
    """Host, layout and file of every test that is marked with `layout`: one that takes such a folder through the commands."""
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.layout":
                    host, layout = (ast.literal_eval(argument) for argument in mark.args)
                    yield host, layout, path.name


def table() -> str:
    """The table, and which test stands behind each of its columns."""
    head = ("host", "layouts", "`--dtype`", "`--tokens`", "swap", "convert", "fine-tune", "score", "ask", "export")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    published = list(layouts())
    for name in OWN_HOSTS:
        class_of = "of `mllm_adapters.load`" if ":" in get_host(name).model_class else "transformers'"
        read = [class_of, *(f"{layout} (`{file}`)" for host, layout, file in published if host == name)]
        dtypes = _ticks(name, PRECISIONS, "dtype")
        policies = _ticks(name, POLICIES, "tokens", lambda policy, name=name: test_hosts.REFUSED.get((name, policy)))
        commands = [_ticks(name, COMMANDS)] * 5
        how = "✓" if name in test_export.STOCK else "✓ with code"
        exports = _ticks(name, EXPORTS).replace("✓", how)
        lines.append(f"| {' | '.join([f'`{name}`', '; '.join(read), dtypes, policies, *commands, exports])} |")
    behind = {
        "layouts, swap to ask": COMMANDS,
        "`--dtype`": PRECISIONS,
        "`--tokens`": POLICIES,
        "export": EXPORTS,
    }
    said = "; ".join(f"{column}: `{test.__module__}.py::{test.__name__}`" for column, test in behind.items())
    return "\n".join([*lines, "", f"Behind the ticks, with a parameter for each: {said}.", ""])


def _ticks(name: str, test: Test, argument: str = "", refused: Callable[[str], str | None] = lambda _: None) -> str:
    """A tick where this host is a parameter of the test, with the values of a further argument; otherwise the reason."""
    found = [each for each in parameters(test) if each["name"] == name]
    if not found:
        return WITHOUT[name, test]
    if not argument:
        return "✓"
    values = dict.fromkeys(each[argument] for each in found)
    return "; ".join(f"{value}: refused, {why}" if (why := refused(value)) else f"{value} ✓" for value in values)


def in_page(page: str) -> str:
    """The page with the table of today."""
    before, _, behind = page.partition(HEADING)
    if not behind:
        raise ValueError(f"{PAGE} has no heading {HEADING.strip()!r}")
    rest = re.search(r"^## ", behind, re.MULTILINE)
    return before + HEADING + table() + "\n" + (behind[rest.start() :] if rest else "")


if __name__ == "__main__":
    PAGE.write_text(in_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
