from .parsing import Reply, parse_reply

__all__ = [
    "Reply",
    "parse_reply",
]
