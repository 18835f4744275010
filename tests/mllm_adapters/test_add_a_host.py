"""The host that docs/add_a_host.md adds as an example: with its file and its line it passes all that every host passes."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_hosts
from test_hosts import donor, grafts, tuned  # noqa: F401 - fixtures

from mllm_adapters.contract.token_policy import POLICIES
from mllm_adapters.graft.validation import validate
from mllm_adapters.hosts.registry import HOSTS
from mllm_adapters.loading.load import load

DOCS = Path(__file__).parents[2] / "docs"
NAME, PLACE = "medgemma", "add_a_host:MedGemma"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.setitem(HOSTS, NAME, PLACE)


def needs(check: Callable[..., None]) -> list[str]:
    return list(inspect.signature(check).parameters)


CHECKS = [check for name, check in vars(test_hosts).items() if name.startswith("test_") and "name" in needs(check)]


@pytest.mark.parametrize(
    ("check", "tokens"),
    [(check, tokens) for check in CHECKS for tokens in (POLICIES if "tokens" in needs(check) else ("",))],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_it_does_what_every_host_does(check: Callable[..., None], tokens: str, request: Any) -> None:
    given = {"name": NAME, "tokens": tokens}
    check(**{need: given[need] if need in given else request.getfixturevalue(need) for need in needs(check)})


@pytest.mark.slow
def test_reloaded_in_a_fresh_process_the_logits_are_the_same(tuned, photographs: list[Path]) -> None:  # noqa: F811
    lines = ["import sys", f"sys.path.insert(0, {str(DOCS)!r})", "from mllm_adapters.hosts.registry import HOSTS"]
    register = "\n".join([*lines, f"HOSTS[{NAME!r}] = {PLACE!r}"])
    said = test_hosts.logits_in_a_fresh_process([tuned(NAME)], photographs[0], register)
    assert said == [test_hosts.logits_here(tuned(NAME), photographs[0])]


def test_tokens_of_the_host_and_of_the_graft(hosts, grafts) -> None:  # noqa: F811
    assert load(hosts(NAME)).model.config.mm_tokens_per_image == 4
    found = {tokens: validate(grafts(NAME, tokens)).features for tokens in POLICIES}
    assert found == {"native": 16, "resize_features": 4, "resize_posemb": 4, "pooled": 1}
