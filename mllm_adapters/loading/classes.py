"""The class of a host's models, with room for a donor that it cannot hold by itself."""

from importlib import import_module
from typing import Any

from mllm_adapters.contract.host import Host
from mllm_adapters.contract.tower_spec import TowerSpec


def model_class(host: Host, tower: TowerSpec | None = None) -> Any:
    """The class of a host's models; for a tower that it cannot hold, a subclass that takes the module of `Host.build_tower`."""
    # here, because torch takes seconds to import
    import transformers

    module, _, name = host.model_class.rpartition(":")
    stock = getattr(import_module(module) if module else transformers, name)
    if tower is None:
        return stock

    def build(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        stock.__init__(self, config, *arguments, **options)
        self.set_submodule(host.tower, host.build_tower(tower, config))

    # transformers finds conversions of old tensor names by the class's name, so it stays the stock one
    return type(stock.__name__, (stock,), {"__init__": build, "__module__": stock.__module__})
