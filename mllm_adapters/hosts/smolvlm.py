"""SmolVLM2: an Idefics3 with SmolLM2 as its language model."""

from mllm_adapters.hosts.idefics3.host import Idefics3


class SmolVLM(Idefics3):
    """SmolVLM2; all that is not said here is Idefics3's."""

    name = "smolvlm"
    title = "SmolVLM2"
    checkpoint = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
    model_type = "smolvlm"
    model_class = "SmolVLMForConditionalGeneration"
    geometry = (
        "SigLIP-So400m/14 on the image and its tiles of 384 px, last state after the norm",
        "pixel shuffle, one linear layer",
        "81 a tile",
    )
    preamble = "<|im_start|>"

    def prompt(self, question: str) -> str:
        """As Idefics3's, with the token in front that its tokenizer does not put there."""
        return f"{self.preamble}{super().prompt(question)}"
