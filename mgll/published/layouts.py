"""How published vision encoders lie in their files: one entry per family, in a table. `mgll.published` reads them.

What an entry states comes from the public code that writes or loads such files (`seen`), or only from memory. No published weights
were at hand: the tests build files with these names and shapes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from mgll.images.preprocessing import CLIP_MEAN, CLIP_STD

Kind = Literal["clip", "timm_vit", "radio", "resnet", "timm", "transformers"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: What lies beside the image side of an OpenAI-like CLIP: its text side, and the projections of both.
_OPENAI = (
    r"visual\.proj",
    r"transformer\..*|token_embedding\.weight|positional_embedding|ln_final\..*|text_projection|attn_mask",
    r"logit_scale|logit_bias",
    r"input_resolution|context_length|vocab_size",
)
_OPEN_CLIP = (*_OPENAI, r"text\..*")
_OPEN_CLIP_TIMM = (*_OPEN_CLIP, r"visual\.head\..*")
_MAE = (r"decoder_.*|mask_token", r"head\..*")
#: Children of torchvision's ResNet by their place in `nn.Sequential`.
_SEQUENTIAL = (
    (r"^res_features\.0\.", "conv1."),
    (r"^res_features\.1\.", "bn1."),
    *((rf"^res_features\.{place}\.", f"layer{place - 3}.") for place in (4, 5, 6, 7)),
)
_KAD = (r"resnet\..*", r"res_l[12]\..*")


@dataclass(frozen=True)
class Layout:
    """Where the tower lies in a family's files, and how its images are prepared.

    Attributes:
        kind: what the tower becomes. `clip`: a `CLIPVisionModel`; `timm_vit` and `resnet`: such a trunk of timm, its shape read off
            the tensors; `radio`: such a ViT under names of its own; `timm`: a trunk exactly as timm builds it by name;
            `transformers`: a folder that transformers reads.
        seen: whether the names were read in public code; otherwise they are known from memory, and unverified.
        published: where code and weights are published.
        licence: licence of the weights, as the code's licence file states; "not stated" where there is none.
        note: what the file does not say, or where this reader departs from the published preparation of images.
        container: entries of the file, one of which holds the tensors; "" is the file itself. The first entry that exists is taken.
        prefix: what every name of the tower's tensors begins with.
        dropped: patterns of the names of other tensors. A tensor that is neither of the tower nor matched is an error.
        renames: patterns and replacements for the tower's names, applied after the prefix is removed.
        architecture: name of the trunk in timm.
        head_width: channels of an attention head, which the weights do not tell; 0 where they do.
        size: side of the image in pixels, if the weights do not tell it, or not exactly.
        mean, std, resize: the fields of these names in `Preprocessing`.
        hidden_act: activation of a `clip` tower.
        told: patterns of names that tell the activation, whatever `hidden_act` says: pairs of pattern and activation.
        pooling: which output is the image's feature: `cls`, `mean` or `head`.

        None in `mean`, `std`, `resize`, `hidden_act` or `pooling` means that neither the file nor its code states the value: the
        caller must.
    """

    kind: Kind
    seen: bool
    published: str
    licence: str
    note: str
    container: tuple[str, ...] = ("",)
    prefix: str = ""
    dropped: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    architecture: str | None = None
    head_width: int = 64
    size: int | None = None
    mean: tuple[float, float, float] | None = IMAGENET_MEAN
    std: tuple[float, float, float] | None = IMAGENET_STD
    resize: Literal["pad", "squash", "crop"] | None = "squash"
    hidden_act: str | None = None
    told: tuple[tuple[str, str], ...] = ()
    pooling: Literal["cls", "mean", "head"] | None = "cls"


_CLIP: dict[str, Any] = {"kind": "clip", "prefix": "visual.", "mean": CLIP_MEAN, "std": CLIP_STD}
_RESNET: dict[str, Any] = {"kind": "resnet", "architecture": "resnet50", "pooling": "mean"}
_FLAIR: dict[str, Any] = {
    **_RESNET,
    "prefix": "vision_model.model.",
    "size": 512,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "resize": "pad",
}

LAYOUTS: dict[str, Layout] = {
    "mgll": Layout(
        **{**_CLIP, "prefix": "clip.visual.", "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
        seen=True,
        published="github.com/HUANGLIZI/MGLL (pretrain.pth)",
        licence="not stated; academic research only by the README",
        note="activation: gelu where the file has clip.text.*, which open_clip writes since 2.29; quick_gelu where it has"
        " clip.transformer.*, as it was before; unknown where the text side was cut off. Mean and std of pretraining; their"
        " fine-tuning uses 0.5. They scale to 512, then to 224",
        container=("model",),
        dropped=(
            r"clip\.visual\.proj",
            r"(clip\.)?(logit_scale|logit_bias)",
            r"clip\.text\..*",
            r"clip\.(transformer|ln_final)\..*|clip\.(token_embedding\.weight|positional_embedding|text_projection|attn_mask)",
            r"(text_model|text2visual|visual2text|adapter_text|text_linear)\..*",
        ),
        hidden_act="gelu",
        told=((r"clip\.text\.", "gelu"), (r"clip\.transformer\.", "quick_gelu")),
    ),
    "retfound": Layout(
        kind="timm_vit",
        seen=True,
        published="github.com/rmaphoh/RETFound (RETFound_mae_*)",
        licence="CC BY-NC 4.0",
        note="a pretraining file has no norm for the mean over patches that fine-tuning pools by (fc_norm): the last norm takes its"
        " place; a fine-tuned file has it, and is pooled by it. They scale to 256 and cut out 224; here the whole centre square",
        container=("model",),
        dropped=_MAE,
        architecture="vit_large_patch16_224",
        resize="crop",
        pooling="mean",
    ),
    "retfound-dinov2": Layout(
        kind="timm_vit",
        seen=True,
        published="github.com/rmaphoh/RETFound (RETFound_dinov2_*)",
        licence="CC BY-NC 4.0",
        note="the teacher of a DINOv2 training; they run it at 224 px: --size 224 if the positions in the file are for 518. They"
        " scale to 256 and cut out 224; here the whole centre square",
        container=("teacher", "model"),
        dropped=(r"(backbone\.)?(mask_token|head\..*)", r"(dino_head|ibot_head)\..*"),
        # a training may have kept its blocks in chunks
        renames=(
            (r"^backbone\.", ""),
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
            (r"\.w12\.", ".fc1."),
            (r"\.w3\.", ".fc2."),
        ),
        architecture="vit_large_patch14_dinov2",
        resize="crop",
    ),
    "flair": Layout(
        **_FLAIR,
        seen=True,
        published="github.com/jusiro/FLAIR",
        licence="Apache-2.0",
        note="values in 0..1 without normalisation. They pad below and to the right, here on both sides",
        dropped=(r"vision_model\.projection_head_vision\..*", r"text_model\..*", r"logit_scale"),
    ),
    "keepfit": Layout(
        **_FLAIR,
        seen=True,
        published="github.com/lxirich/MM-Retinal (KeepFIT, colour fundus)",
        licence="not stated",
        note="FLAIR's classes, and an attention that is no part of the tower; images as for FLAIR",
        dropped=(r"vision_model\.projection_head_vision\..*", r"text_model\..*", r"logit_scale", r"attention\..*"),
    ),
    "ret-clip": Layout(
        **_CLIP,
        seen=True,
        published="github.com/sStonemason/RET-CLIP (ViT-B-16)",
        licence="not stated",
        note="trained on both eyes of a patient; the tower sees one",
        container=("state_dict",),
        dropped=(
            r"visual\.proj",
            r"bert\..*",
            r"(text_projection|text_projection_left|text_projection_right)(\..*)?",
            r"logit_scale(_left|_right)?",
            r"(global|left|right)_feature_mapping\..*",
        ),
        hidden_act="quick_gelu",
    ),
    "visionfm": Layout(
        kind="timm_vit",
        seen=True,
        published="github.com/ABILab-CUHK/VisionFM (VFM_Fundus_weights.pth)",
        licence="CC BY-NC 4.0",
        note="mean and std of fundus photographs; its other modalities have others",
        container=("teacher", "visionfm_state_dict", ""),
        dropped=(r"(backbone\.)?(head\..*|masked_embed)",),
        renames=((r"^backbone\.", ""),),
        architecture="vit_base_patch16_224",
        mean=(0.423737496137619, 0.2609460651874542, 0.128403902053833),
        std=(0.29482534527778625, 0.20167365670204163, 0.13668020069599152),
    ),
    "unimed-clip": Layout(
        **_CLIP,
        seen=True,
        published="github.com/mbzuai-oryx/UniMed-CLIP",
        licence="CC BY-NC 4.0",
        note="all its models are of open_clip's quickgelu kind",
        container=("state_dict", ""),
        dropped=(r"visual\.proj", r"text_encoder\..*", r"logit_scale"),
        resize="crop",
        hidden_act="quick_gelu",
    ),
    "chexzero": Layout(
        **{**_CLIP, "mean": (101.48761 / 255,) * 3, "std": (83.43944 / 255,) * 3},
        seen=True,
        published="github.com/rajpurkarlab/CheXzero",
        licence="MIT",
        note="mean 101.48761 and std 83.43944 of 255. They pad in black, here in the mean grey",
        dropped=_OPENAI,
        resize="pad",
        hidden_act="quick_gelu",
    ),
    "kad": Layout(
        **_RESNET,
        seen=True,
        published="github.com/xiaoman-zhang/KAD (ResNet-50 at 512 and 1024)",
        licence="MIT",
        note="its two layers behind each cell (res_l1, res_l2) lead to the texts and stay behind. The form for 224 px has no layer4"
        " and is refused; --size 1024 for KAD-1024",
        container=("image_encoder",),
        dropped=_KAD,
        renames=_SEQUENTIAL,
        size=512,
    ),
    "unichest": Layout(
        **_RESNET,
        seen=True,
        published="github.com/Elfenreigen/UniChest",
        licence="MIT",
        note="KAD's ResNet-50; the DenseNet form is refused",
        container=("image_encoder",),
        dropped=_KAD,
        renames=_SEQUENTIAL,
        size=512,
    ),
    "mrm": Layout(
        kind="timm_vit",
        seen=True,
        published="github.com/RL4M/MRM-pytorch (MRM.pth)",
        licence="MIT",
        note="pooled like RETFound, with the last norm for the missing fc_norm",
        container=("model",),
        dropped=(*_MAE, r"bert_(encoder|mlp)\..*"),
        architecture="vit_base_patch16_224",
        mean=(0.4978,) * 3,
        std=(0.2449,) * 3,
        resize="crop",
        pooling="mean",
    ),
    "fg-clip": Layout(
        kind="transformers",
        seen=True,
        published="github.com/360CVGroup/FG-CLIP, branch v1.0; huggingface.co/qihoo360/fg-clip-base",
        licence="Apache-2.0",
        note="FG-CLIP 1, whose image side is CLIP's; images as preprocessor_config.json says. Its own classes are not run",
        mean=None,
        std=None,
        resize=None,
    ),
    "biomedclip": Layout(
        kind="timm_vit",
        seen=True,
        published="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        licence="MIT by its card (recalled)",
        note="shape, mean and std as its open_clip_config.json says",
        container=("state_dict", ""),
        prefix="visual.trunk.",
        dropped=_OPEN_CLIP_TIMM,
        architecture="vit_base_patch16_224",
        mean=CLIP_MEAN,
        std=CLIP_STD,
        resize="crop",
    ),
    "rad-dino": Layout(
        kind="transformers",
        seen=False,
        published="huggingface.co/microsoft/rad-dino",
        licence="see its card",
        note="a DINOv2 of transformers; images as preprocessor_config.json says",
        mean=None,
        std=None,
        resize=None,
    ),
    "conceptclip": Layout(
        kind="timm_vit",
        seen=False,
        published="github.com/JerrryNie/ConceptCLIP; huggingface.co/JerrryNie/ConceptCLIP (model.safetensors)",
        licence="MIT",
        note="architecture and images as its code says; that the published file has open_clip's names is inferred",
        container=("state_dict", ""),
        prefix="visual.trunk.",
        dropped=_OPEN_CLIP_TIMM,
        architecture="vit_so400m_patch14_siglip_384",
        head_width=72,
        size=384,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        pooling="head",
    ),
    "lvm-med": Layout(
        **_RESNET,
        seen=True,
        published="github.com/duyhominhnguyen/LVM-Med (lvmmed_resnet.torch)",
        licence="CC BY-NC-SA 4.0",
        note="the ResNet-50; the ViT-B, an encoder of SAM, is not read. They load it leniently, so other names would show here",
        dropped=(r"fc\..*",),
        size=224,
    ),
    "radio": Layout(
        kind="radio",
        seen=True,
        published="huggingface.co/nvidia/C-RADIOv3-B, -L, -H, -g, C-RADIOv4-H, -SO400M (model.safetensors)",
        licence="NVIDIA Open Model License (commercial use allowed)",
        note="the class token is its first teacher's (a CLIP or SigLIP), the others' tokens count as registers; --pooling mean"
        " takes its dense feature. It sees any size: --size. Its own normalisation, inside the model, is CLIP's. C-RADIO 2 of equal"
        " shapes is read too, but how its code interpolates positions was not seen",
        prefix="radio_model.model.",
        dropped=(
            r"radio_model\.(input_conditioner\.norm_(mean|std)|summary_idxs)",
            r"radio_model\.(adaptors|feature_normalizer|inter_feature_normalizer)\..*",
            r"radio_model\.model\.patch_generator\.video_embedder\..*",
        ),
        head_width=0,
        size=512,
        mean=CLIP_MEAN,
        std=CLIP_STD,
    ),
    "openai": Layout(
        **_CLIP,
        seen=True,
        published="github.com/openai/CLIP, its archives or a state dict",
        licence="MIT",
        note="the ResNets, which pool by attention, are refused",
        container=("state_dict", ""),
        dropped=_OPENAI,
        resize="crop",
        hidden_act="quick_gelu",
    ),
    "open_clip": Layout(
        **_CLIP,
        seen=True,
        published="github.com/mlfoundations/open_clip, a model with its own ViT",
        licence="of the weights in question",
        note="activation, and heads other than 64 wide; mean and std are CLIP's unless given",
        container=("state_dict", ""),
        dropped=_OPEN_CLIP,
        resize="crop",
    ),
    "open_clip-timm": Layout(
        kind="timm",
        seen=True,
        published="github.com/mlfoundations/open_clip, a model with a trunk of timm",
        licence="of the weights in question",
        note="everything but the tensors",
        container=("state_dict", ""),
        prefix="visual.trunk.",
        dropped=_OPEN_CLIP_TIMM,
        mean=None,
        std=None,
        resize=None,
        pooling=None,
    ),
    "timm": Layout(
        kind="timm",
        seen=True,
        published="github.com/huggingface/pytorch-image-models",
        licence="of the weights in question",
        note="everything but the tensors; the classifier of the named architecture stays behind",
        container=("state_dict", "model", ""),
        mean=None,
        std=None,
        resize=None,
        pooling=None,
    ),
    "transformers": Layout(
        kind="transformers",
        seen=True,
        published="a folder of transformers: CLIP, SigLIP (1, 2, Med), ViT, DINOv2, DINOv3, AIMv2, ...",
        licence="of the weights in question",
        note="images as preprocessor_config.json says, where there is one",
        mean=None,
        std=None,
        resize=None,
        pooling=None,
    ),
}
