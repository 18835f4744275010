"""Settings of pretraining as typed dataclasses; a YAML file fills them and flags override it. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mgll.bounds import Bounds
from mgll.images.preprocessing import Decode, Preprocessing

ObjectiveName = Literal["mgll", "mgll-paper", "clip", "clip-single", "siglip", "supcon"]
TextTraining = Literal["frozen", "full"] | int
ImageTraining = Literal["full"] | int
TextLevels = Literal["separate", "pooled", "caption", "single"]
TextPooling = Literal["auto", "cls", "mean", "last"]
Half = Literal["A", "B", "AB", "none"]


@dataclass(frozen=True)
class ObjectiveSettings:
    """Which terms are summed, and how.

    Attributes:
        sclip: weight of the soft CLIP term (Eq. 1 to 3).
        pointwise: weight of the point-wise term (Eq. 4).
        smooth_kl: weight of the smooth KL term (Eq. 5 and 6).
        supcon: weight of the supervised contrastive term between images: those that share a text are positives.
        levels: `separate` granularities, all texts `pooled` into one level, one joined `caption` per image, or a `single` text per
            image, drawn anew in each step among all that it has.
        soft_targets: weigh the positives of one image (of one text) by 1 over their number (Eq. 3); False gives each weight 1, as
            CLIP does.
        pointwise_reduction: `sum` over texts (Eq. 4) or `mean` over texts (A.2); both average over images.
        pointwise_texts: every `occurrence` of a text counts (Eq. 4), so that a text weighs by the square of how many images carry
            it; or every `unique` text counts once.
        pointwise_bias: added to the logits of the point-wise term; the paper's is 0.
        learn_bias: train the bias of the point-wise term.
        temperature: tau, by which similarities are divided to give logits.
        learn_temperature: train the temperature, as CLIP does.
    """

    sclip: float = 1.0
    pointwise: float = 0.1
    smooth_kl: float = 1.0
    supcon: float = 0.0
    levels: TextLevels = "separate"
    soft_targets: bool = True
    pointwise_reduction: Literal["sum", "mean"] = "mean"
    pointwise_texts: Literal["occurrence", "unique"] = "occurrence"
    pointwise_bias: float = -4.0
    learn_bias: bool = True
    temperature: float = 0.07
    learn_temperature: bool = False


#: Objectives by name. `mgll-paper` is the paper to the letter (Eq. 7's weights, Eq. 4's sum). `mgll` is what measured best on the
#: validation split of real photographs, where the point-wise term at the paper's weight cost about 1.5 points of macro AUC.
OBJECTIVES: Mapping[str, ObjectiveSettings] = {
    "mgll": ObjectiveSettings(),
    "mgll-paper": ObjectiveSettings(0.5, 1.0, 1.0, pointwise_reduction="sum", pointwise_bias=0.0, learn_bias=False),
    "clip": ObjectiveSettings(1.0, 0.0, 0.0, levels="caption", soft_targets=False),
    # What the paper calls CLIP: a single label of a single granularity.
    "clip-single": ObjectiveSettings(1.0, 0.0, 0.0, levels="single", soft_targets=False),
    "siglip": ObjectiveSettings(
        0.0, 1.0, 0.0, 0.0, "caption", False, "sum", pointwise_bias=-10.0, temperature=0.1, learn_temperature=True
    ),
    # Positives are images with exactly the same texts; with levels="separate" they are images that share a text.
    "supcon": ObjectiveSettings(0.0, 0.0, 0.0, 1.0, levels="caption", temperature=0.1),
}

#: Probability of a flip and strength of colour jitter (the paper's) where no text speaks against them.
FLIP, COLOUR_JITTER = 0.5, 0.1


@dataclass(frozen=True)
class PretrainSettings:
    """One pretraining run.

    Attributes:
        manifest: manifest whose `train` split is trained on; None trains on the embedded synthetic photographs.
        out: folder of the run; the tower is written there as `mgll.ckpt`.
        objective: `mgll`, `mgll-paper`, `clip`, `clip-single`, `siglip` or `supcon`.
        objective_settings: replaces the named objective's settings where given (the ablations of Tables 3, 4, 35 and 36).
        encoder: an image encoder of `mgll.encoders.vision`: `vit-base-16`, `vit-large-14`, `vit-huge-14`, `convnext-base`,
            `convnext-large`, `timm:NAME`, `open_clip:NAME` or `hf:FOLDER`, a local folder of transformers with its weights.
        encoder_options: arguments of the encoder that replace those of the named one, such as `hidden_act` of a ViT (`quick_gelu`
            for OpenAI's weights) or `drop_path_rate` of a timm trunk.
        start_weights: local file or folder whose weights the encoder starts from: a tower file, open_clip's, OpenAI's CLIP, a
            folder of transformers, or timm's. It must hold all weights of the encoder. None starts from random weights.
        image_training: `full`, or the number of the encoder's last layers that are trained; those before them keep their weights.
        image_size: height and width of the tower's input in pixels.
        resize: `pad` to a square with the mean colour, `squash`, or `crop` the centre.
        decode: `draft` decodes large JPEG files at a lower resolution, of which the input still takes a third or less (some grey
            levels apart, `mgll.images.decoding`); `exact` in full. None goes on as a run in `out` began, and else is `draft`.
        mean: per-channel mean of pixel values in 0..1.
        std: per-channel standard deviation of pixel values in 0..1.
        pooling: what is trained against texts: the class token (`cls`, the paper), the `mean` of the patch tokens, or the output of
            the encoder's own pooling `head` (SigLIP's attention, ConvNeXt's mean and norm).
        feature_width: width of the space that images and texts share.
        text_encoder: a local directory or hub id of a BERT-like model, a decoder or a CLIP, or `embedded`.
        text_training: how the text encoder is trained: `frozen` (its features are computed once, before training), `full`, or the
            number of its last layers that are trained.
        text_pooling: what stands for a text: its first token (`cls`), the `mean` of its tokens, or the `last` one, which is CLIP's
            end of text. `auto` is `last` where a token sees only those before it, else `mean`.
        text_dropout: dropout probability in a text encoder that is trained. Above 0, images that share a text also share its
            dropout.
        epochs: passes over the training images.
        batch_size: images per step over all processes.
        learning_rate: AdamW's peak learning rate; it rises linearly during the warm-up and then falls to 0 along a cosine.
        weight_decay: AdamW's weight decay.
        betas: AdamW's decay rates of the first and second moment.
        eps: AdamW's epsilon.
        warmup: share of the steps in which the learning rate rises.
        clip_grad: largest gradient norm; a larger gradient is scaled down to it.
        crop_scale: smallest share of the area that a random crop keeps; 1 switches crops off.
        flip: probability of a horizontal flip. None is 0.5, or 0 where texts name sides (`mgll.training.augmentation`), beside
            which a flip that is asked for is refused.
        colour_jitter: brightness, contrast and saturation factors are drawn from 1 plus or minus this. None is 0.1, or 0 where
            texts name colours, beside which more than 0.1 is refused.
        augment_against_texts: flip and jitter as they are set, whatever texts name.
        seed: seed of weights, order and augmentation.
        augment_on_device: crop, flip and jitter in batches on the device instead of image by image on the processor. The looks are
            the same, their pixels differ by rounding.
        workers: processes that decode images and pick texts, for each process that trains; 0 does so between steps.
        prefetch: batches that each of them prepares ahead; fewer where shared memory has no room for them.
        cache_images: keep the decoded, resized images in memory, in one block for a process and its workers.
        cache_gib: memory in GiB that they may take on this machine; images beyond it are decoded in every epoch.
        shards_at_once: number of shards (or folders) whose images are mixed at a time, so that a slow disk reads few at once; every
            epoch mixes other shards with each other. 0 mixes all.
        source_resolution: scale images down to this longest side, in pixels, before anything else (Table 7).
        wrong_texts: share of the images' levels that get another image's texts (Table 8), see `mgll.training.text_corruption`.
        missing_texts: share of the images' levels that are taken away (Tables 8 and 37).
        granularity: level -> the half of the images that keeps it, `A`, `B`, `AB` or `none` (Table 38); levels not named are kept.
        join_levels: level -> the level that its texts are trained as (Table 4's two granularities); applied after
            `wrong_texts`, `missing_texts` and `granularity`.
        max_bad_share: largest share of damaged training images; above it the run stops and lists them.
        remember_images: write digests of the training images beside the tower (`mgll.seen`), by which images asked about are found
            again without the manifest. It costs one look at every image, at the end.
        verify_images: a resumed run compares the bytes of all image files with those that it began with, for which it reads them
            once; without it, it does so where they are at most 4 GiB together, and else compares sizes and times of change.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
        trackers: trackers that also get the metrics, through accelerate (`tensorboard`, `wandb`).
        mixed_precision: accelerate's mixed precision: `no`, `bf16` or `fp16`. `auto` is `bf16` on a GPU that is good at it, else
            `no` (`mgll.training.precision`).
        compile: compile the encoders with torch.compile, which takes a minute or more at the start, and a C++ compiler on a CPU.
            What it computes differs by rounding, so such a run is another one.
        gradient_checkpointing: the encoders keep only the inputs of each layer and compute the rest again for the gradient.
        chunk: images, and texts, that a process encodes at once; their activations are computed again for the gradient, which is
            that of the whole batch. None encodes the whole batch at once.
    """

    manifest: str | None = None
    out: str = "runs/pretrain"
    objective: ObjectiveName = "mgll"
    objective_settings: ObjectiveSettings | None = None
    encoder: str = "vit-tiny-16"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    start_weights: str | None = None
    image_training: ImageTraining = "full"
    image_size: int = 96
    resize: Literal["pad", "squash", "crop"] = "pad"
    decode: Decode | None = None
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    pooling: Literal["cls", "mean", "head"] = "mean"
    feature_width: int = 256
    text_encoder: str = "embedded"
    text_training: TextTraining = "frozen"
    text_pooling: TextPooling = "auto"
    text_dropout: float = 0.0
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    warmup: float = 0.1
    clip_grad: float = 1.0
    crop_scale: float = 0.7
    flip: float | None = None
    colour_jitter: float | None = None
    augment_against_texts: bool = False
    seed: int = 0
    augment_on_device: bool = False
    workers: int = 0
    prefetch: int = 2
    cache_images: bool = True
    cache_gib: float = 4.0
    shards_at_once: int = 0
    source_resolution: int | None = None
    wrong_texts: float = 0.0
    missing_texts: float = 0.0
    granularity: Mapping[str, Half] | None = None
    join_levels: Mapping[str, str] | None = None
    max_bad_share: float = 0.01
    remember_images: bool = True
    verify_images: bool = False
    checkpoint_every: int = 100
    log_every: int = 10
    trackers: tuple[str, ...] = ()
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    chunk: int | None = None

    bounds: ClassVar[Bounds] = {
        "image_size": (1, 8192),
        "feature_width": (1, math.inf),
        "text_dropout": (0, 0.99),
        "epochs": (1, math.inf),
        "batch_size": (1, math.inf),
        "learning_rate": (0, math.inf),
        "weight_decay": (0, math.inf),
        "eps": (0, 1),
        "warmup": (0, 1),
        "clip_grad": (0, math.inf),
        "crop_scale": (0.01, 1),
        "flip": (0, 1),
        "colour_jitter": (0, 1),
        "workers": (0, 1024),
        "prefetch": (1, math.inf),
        "cache_gib": (0, math.inf),
        "shards_at_once": (0, math.inf),
        "source_resolution": (1, math.inf),
        "wrong_texts": (0, 1),
        "missing_texts": (0, 1),
        "max_bad_share": (0, 1),
        "checkpoint_every": (1, math.inf),
        "log_every": (1, math.inf),
        "chunk": (1, math.inf),
    }

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the tower's input."""
        return Preprocessing(
            size=self.image_size, mean=self.mean, std=self.std, resize=self.resize, decode=self.decode or "draft"
        )

    @property
    def resolved_objective(self) -> ObjectiveSettings:
        """The settings of the objective: `objective_settings` if given, otherwise those that `OBJECTIVES` has for its name."""
        return self.objective_settings or OBJECTIVES[self.objective]
