"""The hosts by name. A new host is one file with a `HOST` in it and one line here."""

from importlib import import_module

from mllm_adapters.host import Host, HostError

HOSTS = {
    "llava": "mllm_adapters.llava",
}


def get_host(name: str) -> Host:
    """The host of this name; its file is imported only now.

    Raises:
        HostError: if there is none of that name.
    """
    if name not in HOSTS:
        raise HostError(f"no host is called {name!r}; known: {', '.join(HOSTS)}")
    host: Host = import_module(HOSTS[name]).HOST
    return host


def host_of(model_type: object) -> Host:
    """The host whose checkpoints carry this `model_type`.

    Raises:
        HostError: if none does.
    """
    known = {get_host(name).model_type: get_host(name) for name in HOSTS}
    if model_type not in known:
        raise HostError(f"model_type is {model_type!r}; hosts are known for {', '.join(map(repr, known))}")
    return known[str(model_type)]
