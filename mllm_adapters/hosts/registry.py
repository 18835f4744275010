"""The hosts by name. A new host is one file with a subclass of `Host`, and one line here; or a plug-in of another package."""

import re
import warnings
from argparse import ArgumentTypeError
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from mgll.plugins import plugins
from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host
from mllm_adapters.contract.terms import HostError

#: `module:class` by name. Of several families that write the same `model_type`, the plain one stands first (see `Host.owns`).
OWN_HOSTS = {
    "llava": "mllm_adapters.hosts.llava.host:Llava",
    "llava-med": "mllm_adapters.hosts.llava_med:LlavaMed",
    "llava-next": "mllm_adapters.hosts.llava_next:LlavaNext",
    "llava-onevision": "mllm_adapters.hosts.llava_onevision:LlavaOnevision",
    "internvl": "mllm_adapters.hosts.internvl.host:InternVL",
    "janus-pro": "mllm_adapters.hosts.janus_pro.host:JanusPro",
    "idefics3": "mllm_adapters.hosts.idefics3.host:Idefics3",
    "smolvlm": "mllm_adapters.hosts.smolvlm:SmolVLM",
    "instructblip": "mllm_adapters.hosts.instructblip.host:InstructBlip",
    "qwen-vl": "mllm_adapters.hosts.qwen_vl.host:QwenVL",
    "qwen2-vl": "mllm_adapters.hosts.qwen2_vl.host:Qwen2VL",
    "qwen2.5-vl": "mllm_adapters.hosts.qwen2_5_vl:Qwen25VL",
    "qwen3-vl": "mllm_adapters.hosts.qwen3_vl.host:Qwen3VL",
    "qwen3.5": "mllm_adapters.hosts.qwen3_5:Qwen35",
    "gemma3": "mllm_adapters.hosts.gemma3:Gemma3",
    "paligemma": "mllm_adapters.hosts.paligemma:PaliGemma",
    "llama3.2-vision": "mllm_adapters.hosts.llama3_2_vision.host:Llama32Vision",
    "med-flamingo": "mllm_adapters.hosts.med_flamingo.host:MedFlamingo",
    "mini-gemini": "mllm_adapters.hosts.mini_gemini.host:MiniGemini",
}
#: Families that people ask for and that are not built, by `model_type`: why, and what to take.
NOT_BUILT = {
    "llama4": "Llama 4 has 109 billion parameters at least, most of them experts in joint tensors, which LoRA on linear layers"
    " does not reach; take --model llama3.2-vision or qwen3.5",
    "qwen3_vl_moe": "Qwen3-VL is built without experts; take --model qwen3-vl with Qwen/Qwen3-VL-8B-Instruct or another dense one",
    "qwen3_5_moe": "Qwen3.5 is built without experts; take --model qwen3.5 with Qwen/Qwen3.5-9B or another dense one",
}
#: The same with the plug-ins of `mgll_graft.hosts`, after our own.
HOSTS = OWN_HOSTS | {name: entry.value for name, entry in plugins("hosts", OWN_HOSTS).items()}


def get_host(name: str) -> Host:
    """The host of this name, the same instance at every call; its file is imported at the first one.

    Raises:
        HostError: if no host has this name, or it is a plug-in that cannot be imported.
    """
    if name not in HOSTS:
        raise HostError(f"no host is called {name!r}; known: {', '.join(HOSTS)}")
    try:
        return _instance(HOSTS[name])
    except (ImportError, AttributeError) as error:
        if name in OWN_HOSTS:
            raise
        raise HostError(f"the plug-in {name} ({HOSTS[name]}) cannot be imported: {error}") from error


def host_name(said: str) -> str:
    """A family's name on a command line (the `type` of `--model`).

    Raises:
        ArgumentTypeError: for a family in `NOT_BUILT`, with what to take instead.
    """
    if why := NOT_BUILT.get(re.sub(r"[^a-z0-9]+", "_", said.lower())):
        raise ArgumentTypeError(why)
    return said


@cache
def _instance(place: str) -> Host:
    module, _, name = place.partition(":")
    host: Host = getattr(import_module(module), name)()
    return host


def all_hosts() -> Iterator[Host]:
    """Every host; a plug-in that cannot be imported is left out with a warning."""
    for name in HOSTS:
        try:
            yield get_host(name)
        except HostError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)


def host_of(config: Json) -> Host:
    """The host whose checkpoints carry this config.json; where several share a `model_type`, the one that claims it.

    Raises:
        HostError: if no host writes this `model_type`, such as that of an export or of a family in `NOT_BUILT`, or it is of a
            family's own layout, which has to be converted first.
    """
    hosts = list(all_hosts())
    if makers := next((host for host in hosts if host.in_makers_layout(config)), None):
        raise HostError(
            f"model_type is {config.get('model_type')!r}: a {makers.title} in its makers' own layout. Write it in the one that is"
            f" loaded first: python -m mllm_adapters.convert --model {makers.name} --checkpoint DIR (or swap)"
        )
    found = [host for host in hosts if host.model_type == config.get("model_type")]
    if str(config.get("model_type")).startswith("grafted_"):
        raise HostError("this is an export for others, with code of its own; take the directory that it was made of")
    if not found and (why := NOT_BUILT.get(str(config.get("model_type")))):
        raise HostError(why)
    if not found:
        known = ", ".join(sorted({repr(host.model_type) for host in hosts}))
        raise HostError(f"model_type is {config.get('model_type')!r}; hosts are known for {known}")
    return next((host for host in found if host.owns(config)), found[0])
