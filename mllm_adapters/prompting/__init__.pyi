from .encoding import encode_prompts, encode_text
from .rows import replies, row_log_probs
from .tree import PromptTree, tree_log_probs

__all__ = [
    "PromptTree",
    "encode_prompts",
    "encode_text",
    "replies",
    "row_log_probs",
    "tree_log_probs",
]
