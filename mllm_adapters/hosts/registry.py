"""The hosts by name. A new host is one file with a `HOST` in it and one line here."""

from importlib import import_module

from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

HOSTS = {
    "llava": "mllm_adapters.hosts.llava.host",
    "llava-med": "mllm_adapters.hosts.llava_med",
    "internvl": "mllm_adapters.hosts.internvl",
    "janus-pro": "mllm_adapters.hosts.janus_pro",
    "instructblip": "mllm_adapters.hosts.instructblip.host",
    "qwen-vl": "mllm_adapters.hosts.qwen_vl.host",
    "qwen2-vl": "mllm_adapters.hosts.qwen2_vl.host",
    "qwen2.5-vl": "mllm_adapters.hosts.qwen2_5_vl",
    "med-flamingo": "mllm_adapters.hosts.med_flamingo.host",
    "mini-gemini": "mllm_adapters.hosts.mini_gemini.host",
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


def host_of(config: Json) -> Host:
    """The host whose checkpoints carry this config.json; where several share a `model_type`, the one that claims it.

    Raises:
        HostError: if none does.
    """
    hosts = [get_host(name) for name in HOSTS]
    found = [host for host in hosts if host.model_type == config.get("model_type")]
    if not found:
        known = ", ".join(sorted({repr(host.model_type) for host in hosts}))
        raise HostError(f"model_type is {config.get('model_type')!r}; hosts are known for {known}")
    return next((host for host in found if host.owns and host.owns(config)), found[0])
