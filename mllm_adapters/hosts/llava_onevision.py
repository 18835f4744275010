"""LLaVA-OneVision: SigLIP-So400m at 384 px on the whole image and on its tiles, a two-layer MLP, Qwen2."""

from types import MappingProxyType

from mllm_adapters.hosts.llava_next import LlavaNext


class LlavaOnevision(LlavaNext):
    """LLaVA-OneVision; tiles and their one view in a graft are LLaVA-NeXT's."""

    name = "llava-onevision"
    title = "LLaVA-OneVision"
    checkpoint = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    model_type = "llava_onevision"
    model_class = "LlavaOnevisionForConditionalGeneration"
    geometry = (
        "SigLIP-So400m/14 on the image and up to 36 tiles of 384 px, last state",
        "2-layer MLP, a line break",
        "729 a tile",
    )
    marker = "<image>"
    text_model = "qwen2"
    processor_classes = ("LlavaOnevisionInARow", "LlavaOnevisionOfGraft")
    unsaid = MappingProxyType(
        {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14, "hidden_size": 1152}
    )
    reads = (-1, "full")

    def prompt(self, question: str) -> str:
        """The question as the checkpoint's own chat template writes it: a space behind the role, and no system sentence."""
        return f"<|im_start|>user <image>\n{question}<|im_end|><|im_start|>assistant\n"

    def answer(self, letter: str) -> str:
        """The letter alone, because the prompt ends with a line break."""
        return letter
