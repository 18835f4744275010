"""LLaVA-Med v1.5: LLaVA's tower and connector on Mistral-7B-Instruct, published in the layout of LLaVA's own repository.

Transformers does not know that layout (`llava_mistral`). The checkpoint is therefore written as transformers' LLaVA around
Mistral, which loads in plain transformers with its own tower or another.
"""

from types import MappingProxyType

from mllm_adapters.checkpoints.json_files import Json
from mllm_adapters.contract.host import Host
from mllm_adapters.hosts.llava.host import CLIP_L, Llava


class LlavaMed(Llava):
    """LLaVA-Med v1.5: a LLaVA whose language model is Mistral."""

    name = "llava-med"
    title = "LLaVA-Med v1.5"
    checkpoint = "microsoft/llava-med-v1.5-mistral-7b"
    makers_types = ("llava_mistral",)
    in_makers_layout = Host.in_makers_layout
    text_model_type = "mistral"
    parts = MappingProxyType({"clip": CLIP_L, "base": "mistralai/Mistral-7B-Instruct-v0.2"})
    preamble = ""

    def prompt(self, question: str) -> str:
        """The question in the form of Mistral's instructions, without a system sentence."""
        return f"[INST] <image>\n{question} [/INST]"

    def owns(self, config: Json) -> bool:
        """Whether the language model is a Mistral."""
        return bool(config.get("text_config", {}).get("model_type") == "mistral")
