"""What every host says about itself, and what happens to one that leaves something out."""

import pytest

from mllm_adapters.contract.host import Host
from mllm_adapters.contract.prompts import EncodedPrompts
from mllm_adapters.hosts.llava.host import Llava
from mllm_adapters.hosts.registry import HOSTS, get_host
from mllm_adapters.modules.last_hidden_state import LastHiddenStateHost


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_gives_its_facts(name: str) -> None:
    host = get_host(name)
    assert host.name == name
    assert {"name", "title", "checkpoint"} <= vars(type(host)).keys()  # else they would be those of a relative
    assert all(getattr(host, fact, None) is not None for fact in Host.__annotations__ if fact not in vars(Host))
    assert get_host(name) is host
    assert not vars(host)


@pytest.mark.parametrize("name", HOSTS)
def test_what_belongs_together_is_overridden_together(name: str) -> None:
    kind = type(get_host(name))
    assert (kind.encode is Host.encode) == (kind.replay is Host.replay)
    assert (kind.own_positions is Host.own_positions) == (kind.position_axes == 1)


def test_a_family_that_leaves_a_fact_out_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Half does not give its family, checkpoint, model_type, .*geometry$"):

        class Half(LastHiddenStateHost):
            name, title = "half", "Half"


def test_a_family_that_leaves_a_method_out_is_refused() -> None:
    class Mute(Llava):
        name = "mute"
        answer = Host.answer

    with pytest.raises(TypeError, match=r"abstract method '?answer"):
        Mute()


def test_positions_count_from_the_first_token_where_a_host_says_nothing() -> None:
    encoded = EncodedPrompts(("a", "b"), ([5, 6, 7], [5, 8]), {}, {})
    assert get_host("llava").own_positions(None, encoded).tolist() == [[0, 1, 2]]
