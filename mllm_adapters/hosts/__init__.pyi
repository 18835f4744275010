from .registry import HOSTS, get_host, host_of

__all__ = [
    "HOSTS",
    "get_host",
    "host_of",
]
