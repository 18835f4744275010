"""Tiny models of the families of `mgll.published.layouts`, built of the real classes, with the names their published files have."""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    RadioConfig,
    RadioModel,
    SiglipConfig,
    SiglipModel,
)

#: Heads are 64 wide in most published towers, so tiny ones cannot be narrower.
SIZE, PATCH, WIDTH, DEPTH = 32, 8, 128, 2
VIT = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "num_classes": 0}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
HF_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 20,
}
HF_TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
HF_VIT = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
HF_VIT |= {"image_size": 32, "patch_size": 8}

Tensors = dict[str, Tensor]
#: Where the published form lies, what its image feature is of pixels, and the side of the images in pixels.
Published = tuple[Path, Callable[[Tensor], Tensor], int]


def moved(model: Any) -> Any:
    """The model with every tensor telling, in evaluation mode."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def below(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def other(*names: str) -> Tensors:
    """Tensors beside a tower."""
    return {name: torch.ones(2) for name in names}


def clip_model(quick_gelu: bool = True, custom_text: bool = False, vision: dict[str, Any] | None = None) -> Any:
    """A CLIP of open_clip's."""
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    shape = vision or {"layers": DEPTH, "width": WIDTH, "patch_size": PATCH, "image_size": SIZE}
    return moved(kind(24, vision_cfg=shape, text_cfg=TEXT, quick_gelu=quick_gelu))


def clip_feature(model: Any) -> Callable[[Tensor], Tensor]:
    """Its feature before the projection to the texts."""
    model.visual.proj = None
    return model.visual


def timm_model(name: str, **changes: Any) -> Any:
    return moved(timm.create_model(name, **{**VIT, **changes}))


def mean_of_patches(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda pixels: model.forward_features(pixels)[:, 1:].mean(dim=1)


def resnet() -> ResNet:
    """torchvision's ResNet-50 with a block a stage."""
    return moved(ResNet(Bottleneck, [1, 1, 1, 1]))


def pooled_resnet(model: ResNet) -> Callable[[Tensor], Tensor]:
    return nn.Sequential(*list(model.children())[:-1], nn.Flatten())


def with_safetensors(path: Path, tensors: Tensors) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def with_torch(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def mgll(folder: Path) -> Published:
    model = clip_model(quick_gelu=False, custom_text=True)
    beside = other(
        "logit_scale", "text2visual.query_proj.weight", "visual2text.ffn.0.bias", "text_model.model.pooler.dense.bias"
    )
    content = {"model": below("clip.", dict(model.state_dict())) | beside, "epoch": 3}
    path = with_torch(folder / "pretrain.pth", content | {"args": argparse.Namespace(lr=1e-5)})
    return path, clip_feature(model), SIZE


def retfound(folder: Path) -> Published:
    model = timm_model("vit_large_patch16_224")
    beside = other("mask_token", "decoder_pos_embed", "decoder_blocks.0.attn.qkv.weight", "decoder_pred.bias")
    content = {"model": model.state_dict() | beside, "optimizer": {"state": {}}, "args": argparse.Namespace()}
    return with_torch(folder / "RETFound_cfp_weights.pth", content), mean_of_patches(model), SIZE


def retfound_finetuned(folder: Path) -> Published:
    model = timm_model("vit_large_patch16_224", global_pool="avg")
    content = {"model": model.state_dict() | other("head.weight", "head.bias")}
    return with_torch(folder / "checkpoint-best.pth", content), model, SIZE


def retfound_dinov2(folder: Path) -> Published:
    model = timm_model("vit_large_patch14_dinov2")
    beside = other("backbone.mask_token", "dino_head.mlp.0.weight", "ibot_head.last_layer.weight_v")
    content = {"teacher": below("backbone.", dict(model.state_dict())) | beside, "optimizer": {}}
    return with_torch(folder / "RETFound_dinov2_meh.pth", content), model, SIZE


def retfound_dinov2_in_chunks(folder: Path) -> Published:
    path, model, size = retfound_dinov2(folder)
    teacher = {name.replace("blocks.1.", "blocks.0.1."): t for name, t in torch.load(path)["teacher"].items()}
    teacher = {name.replace("blocks.0.norm", "blocks.0.0.norm"): t for name, t in teacher.items()}
    for part in ("attn", "ls1", "ls2", "mlp"):
        teacher = {name.replace(f"blocks.0.{part}", f"blocks.0.0.{part}"): t for name, t in teacher.items()}
    return with_torch(path, {"teacher": teacher}), model, size


def flair(folder: Path) -> Published:
    model = resnet()
    trunk = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
    beside = other(
        "vision_model.projection_head_vision.projection.weight", "text_model.model.embeddings.LayerNorm.bias"
    )
    content = below("vision_model.model.", trunk) | beside | other("logit_scale")
    return with_torch(folder / "flair_resnet.pth", content), pooled_resnet(model), 64


def keepfit(folder: Path) -> Published:
    path, feature, size = flair(folder)
    return with_torch(folder / "keepfit.pth", torch.load(path) | other("attention.W_q.weight")), feature, size


def ret_clip(folder: Path) -> Published:
    model = clip_model()
    tensors = below("visual.", dict(model.visual.state_dict()))
    tensors |= other("bert.embeddings.word_embeddings.weight", "text_projection_left.0.weight", "logit_scale_right")
    tensors |= other("global_feature_mapping.weight", "text_projection.0.bias")
    return (
        with_torch(folder / "ret.pt", {"state_dict": below("module.", tensors), "epoch": 1}),
        clip_feature(model),
        SIZE,
    )


def visionfm(folder: Path) -> Published:
    model = timm_model("vit_base_patch16_224")
    content = below("backbone.", dict(model.state_dict())) | other("head.mlp.0.weight", "head.last_layer.weight_v")
    return with_torch(folder / "VFM_Fundus_weights.pth", {"student": {}, "teacher": content}), model, SIZE


def unimed_clip(folder: Path) -> Published:
    model = clip_model()
    tensors = below("visual.", dict(model.visual.state_dict())) | other("logit_scale", "text_encoder.proj.0.weight")
    return with_torch(folder / "unimed.pt", {"state_dict": below("module.", tensors)}), clip_feature(model), SIZE


def openai(folder: Path) -> Published:
    model = clip_model()
    half = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    model.load_state_dict(half)
    content = {name: tensor.half() for name, tensor in half.items()} | other("input_resolution", "vocab_size")
    return with_torch(folder / "clip.pt", content), clip_feature(model), SIZE


def openai_archive(folder: Path) -> Published:
    """As published: a program."""
    model = clip_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(model).save(folder / "ViT-L-14.pt")
    return folder / "ViT-L-14.pt", clip_feature(model), SIZE


def kad(folder: Path) -> Published:
    model = resnet()
    features = nn.Sequential(*list(model.children())[:-2])
    encoder = nn.ModuleDict(
        {"resnet": model, "res_features": features, "res_l1": nn.Linear(8, 8), "res_l2": nn.Linear(8, 4)}
    )
    content = {"model": other("logit_scale"), "image_encoder": encoder.state_dict(), "text_encoder": other("bert")}
    return with_torch(folder / "best_valid.pt", content), lambda pixels: features(pixels).mean(dim=(2, 3)), 64


def mrm(folder: Path) -> Published:
    model = timm_model("vit_base_patch16_224")
    beside = other("mask_token", "decoder_embed.weight", "bert_encoder.model.cls.predictions.bias", "bert_mlp.weight")
    return with_torch(folder / "MRM.pth", {"model": model.state_dict() | beside}), mean_of_patches(model), SIZE


def biomedclip(folder: Path) -> Published:
    trunk = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    model = clip_model(custom_text=True, vision=trunk)
    path = with_torch(folder / "open_clip_pytorch_model.bin", model.state_dict())
    return path, model.visual.trunk, 160


def conceptclip(folder: Path) -> Published:
    shape = {"embed_dim": 144, "mlp_ratio": 3.7362, "img_size": 28, "patch_size": 14}
    model = timm_model("vit_so400m_patch14_siglip_384", **shape)
    tensors = below("visual.trunk.", dict(model.state_dict())) | other("text.transformer.pooler.bias", "logit_bias")
    return with_safetensors(folder / "conceptclip" / "model.safetensors", tensors).parent, model, 28


def lvm_med(folder: Path) -> Published:
    model = resnet()
    return with_torch(folder / "lvmmed_resnet.torch", model.state_dict()), pooled_resnet(model), 64


def open_clip_vit(folder: Path) -> Published:
    model = clip_model(quick_gelu=False, custom_text=True)
    return with_safetensors(folder / "open_clip_model.safetensors", model.state_dict()), clip_feature(model), SIZE


def open_clip_timm(folder: Path) -> Published:
    trunk = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    model = clip_model(custom_text=True, vision=trunk)
    return with_torch(folder / "open_clip.pt", {"state_dict": model.state_dict()}), model.visual.trunk, 160


def timm_file(folder: Path) -> Published:
    model = moved(timm.create_model("test_resnet"))
    path = with_safetensors(folder / "model.safetensors", model.state_dict())
    return path, lambda pixels: model.forward_features(pixels).mean(dim=(2, 3)), 160


def pe_core(folder: Path) -> Published:
    """A PE-Core as timm publishes it."""
    model = moved(timm.create_model("vit_pe_core_tiny_patch16_384", num_classes=0))
    path = with_safetensors(folder / "model.safetensors", model.state_dict())
    return path, lambda pixels: model.forward_head(model.forward_features(pixels), pre_logits=True), 384


def radio(folder: Path) -> Published:
    """A C-RADIO 4 as transformers' own class writes it, under NVIDIA's names; published ones have no LayerScale."""
    shape = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
    model = moved(RadioModel(RadioConfig(**shape, patch_size=PATCH, max_img_size=64)))
    for layer in model.encoder.layer:
        layer.layer_scale1.lambda1.data.fill_(1)
        layer.layer_scale2.lambda1.data.fill_(1)
    model.save_pretrained(folder)
    held = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in held.items() if "layer_scale" not in name}, folder / "model.safetensors"
    )
    model.make_preprocessor_external()
    return folder, lambda pixels: model(pixels).last_hidden_state[:, 0], SIZE


def preprocessor(folder: Path) -> None:
    said = '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "do_center_crop": true}'
    (folder / "preprocessor_config.json").write_text(said)


def rad_dino(folder: Path) -> Published:
    model = moved(Dinov2Model(Dinov2Config(**HF_VIT)))
    model.save_pretrained(folder)
    preprocessor(folder)
    return folder, lambda pixels: model(pixels).pooler_output, 32


def siglip2(folder: Path) -> Published:
    """A SigLIP 2 of fixed resolution, which is a SigLIP; so is MedSigLIP."""
    text = {**HF_TEXT, "max_position_embeddings": 8, "projection_size": 16}
    model = moved(SiglipModel(SiglipConfig(text_config=text, vision_config=HF_VIT)))
    model.save_pretrained(folder)
    preprocessor(folder)
    return folder, lambda pixels: model.vision_model(pixels).pooler_output, 32


def dinov3(folder: Path) -> Published:
    model = moved(DINOv3ViTModel(DINOv3ViTConfig(**HF_VIT, num_register_tokens=4)))
    model.save_pretrained(folder)
    preprocessor(folder)
    return folder, lambda pixels: model(pixels).pooler_output, 32


def aimv2(folder: Path) -> Published:
    model = moved(Aimv2VisionModel(Aimv2VisionConfig(**HF_VIT, use_head=False)))
    model.save_pretrained(folder)
    preprocessor(folder)
    return folder, lambda pixels: model(pixels).last_hidden_state.mean(dim=1), 32


def fg_clip(folder: Path) -> Published:
    model = moved(CLIPModel(CLIPConfig(text_config=HF_TEXT, vision_config=HF_VIT, projection_dim=8)))
    model.save_pretrained(folder)
    extra = other("text_filip_projection.weight", "logit_scale_finegraind", "logit_scale_hardneg")
    with_safetensors(folder / "model.safetensors", model.state_dict() | extra)
    preprocessor(folder)
    return folder, lambda pixels: model.vision_model(pixels).pooler_output, 32


#: Case -> builder, layout, and what the caller has to say.
CASES: dict[str, tuple[Callable[[Path], Published], str, dict[str, Any]]] = {
    "mgll": (mgll, "mgll", {}),
    "retfound": (retfound, "retfound", {}),
    "retfound, fine-tuned": (retfound_finetuned, "retfound", {}),
    "retfound-dinov2": (retfound_dinov2, "retfound-dinov2", {}),
    "retfound-dinov2, in chunks": (retfound_dinov2_in_chunks, "retfound-dinov2", {}),
    "flair": (flair, "flair", {"size": 64}),
    "keepfit": (keepfit, "keepfit", {"size": 64}),
    "ret-clip": (ret_clip, "ret-clip", {}),
    "visionfm": (visionfm, "visionfm", {}),
    "unimed-clip": (unimed_clip, "unimed-clip", {}),
    "openai": (openai, "openai", {}),
    "openai, as published": (openai_archive, "openai", {}),
    "chexzero": (openai, "chexzero", {}),
    "kad": (kad, "kad", {"size": 64}),
    "unichest": (kad, "unichest", {"size": 64}),
    "mrm": (mrm, "mrm", {}),
    "biomedclip": (biomedclip, "biomedclip", {"head_width": 32}),
    "conceptclip": (conceptclip, "conceptclip", {}),
    "lvm-med": (lvm_med, "lvm-med", {"size": 64}),
    "radio": (
        radio,
        "radio",
        {"architecture": "vit_huge_patch16_radio_v4", "head_width": WIDTH // 2, "size": SIZE},
    ),
    "open_clip": (open_clip_vit, "open_clip", {"hidden_act": "gelu"}),
    "open_clip-timm": (
        open_clip_timm,
        "open_clip-timm",
        {"architecture": "test_convnext", "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "crop", "pooling": "head"},
    ),
    "timm": (
        timm_file,
        "timm",
        {"architecture": "test_resnet", "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "crop", "pooling": "mean"},
    ),
    "pe-core, of timm": (
        pe_core,
        "timm",
        {
            "architecture": "vit_pe_core_tiny_patch16_384",
            **{"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "squash", "pooling": "head"},
        },
    ),
    "rad-dino": (rad_dino, "rad-dino", {}),
    "fg-clip": (fg_clip, "fg-clip", {}),
    "transformers": (rad_dino, "transformers", {"pooling": "cls"}),
    "siglip 2, medsiglip": (siglip2, "transformers", {"pooling": "head"}),
    "dinov3": (dinov3, "transformers", {"pooling": "cls"}),
    "aimv2": (aimv2, "transformers", {"pooling": "mean"}),
}
