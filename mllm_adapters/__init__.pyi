from .contract.graft_record import Graft, read_graft
from .contract.host import Host, LoadedHost, Plan
from .contract.terms import GraftSettings, HostError
from .finetuning.finetune import finetune
from .graft.transplant import convert_host, graft_tower
from .hosts.registry import HOSTS, get_host
from .loading.load import load
from .settings import FinetuneSettings, TrainingQuestion

__all__ = [
    "HOSTS",
    "FinetuneSettings",
    "Graft",
    "GraftSettings",
    "Host",
    "HostError",
    "LoadedHost",
    "Plan",
    "TrainingQuestion",
    "convert_host",
    "finetune",
    "get_host",
    "graft_tower",
    "load",
    "read_graft",
]
