from .encoding import encode_prompts, encode_text
from .rows import replies, row_log_probs
from .scoring import log_probs
from .tree import PromptTree, tree_log_probs

__all__ = [
    "PromptTree",
    "encode_prompts",
    "encode_text",
    "log_probs",
    "replies",
    "row_log_probs",
    "tree_log_probs",
]
