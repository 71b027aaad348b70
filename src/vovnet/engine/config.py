"""The settings of a training run: typed, validated, frozen; read from a YAML file and `key=value` arguments.

The docstring of each class documents its keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vovnet.engine.config_file import read_config as read_config
from vovnet.printing import quoted
from vovnet.runtime.tiles import MOST_OVERLAP, OVERLAP, SMALLEST, Tiling

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
BatchSize = Annotated[int, Field(gt=0, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
_LONGEST_TEXT = 4096  # of a path in Linux


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses text that can be no name or path, and 012 for a number, which YAML 1.1 reads as 10."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        for text in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(text, str):
                continue
            if len(text) > _LONGEST_TEXT:
                raise ValueError(f"text may have {_LONGEST_TEXT:,} characters, got {len(text):,}")
            if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
                raise ValueError(f"must be text without NUL and halves of characters, got {quoted(text)}")
            if re.fullmatch(r"[-+]?0\d+", text) and _is_number(annotation):
                raise ValueError(f"write {text} without leading zeros, which some programs read as octal")
        return value


def _is_number(annotation: Any) -> bool:
    """Whether a key takes numbers and no text."""
    types = {annotation, *get_args(annotation)}
    types |= {inner for outer in types for inner in get_args(outer)}
    return bool(types & {int, float}) and str not in types


class DataSource(Section):
    """One split of a dataset.

    root: folder of the dataset.
    split: name of the split.
    """

    root: Path
    split: str


class TilesConfig(Section):
    """How training and validation images are cut into tiles, for objects that are small in them.

    size: side of a tile in pixels of the image.
    overlap: share of its side that a tile has in common with the next one.
    """

    size: Annotated[int, Field(ge=SMALLEST)]
    overlap: Annotated[float, Field(ge=0, le=MOST_OVERLAP)] = OVERLAP

    @property
    def tiling(self) -> Tiling:
        return Tiling(self.size, self.overlap)


class DataConfig(Section):
    """The images to train and evaluate on.

    root: folder of the dataset, in any format that is read; or a YAML file or a split file that describes one.
    train: the split to train on.
    val: the split to evaluate on; null: no evaluation.
    more_train: further splits to train on, with the same classes, such as VOC2012 in addition to VOC2007.
    cache: keep the decoded training images in one file, in vovnet's cache folder or in the folder given, where they are
        read by all processes and by later runs. It takes 3 bytes per pixel of all images.
    tiles: cut training images into tiles, and evaluate in tiles too; null: whole images.
    """

    root: Path
    train: str = "train"
    val: str | None = "val"
    more_train: tuple[DataSource, ...] = ()
    cache: bool | Path = False
    tiles: TilesConfig | None = None


class AugmentConfig(Section):
    """Augmentation for detectors with an input of fixed size; the defaults are SSD's.

    photometric: probability of each change of colour and brightness.
    expand: largest ratio of a padded image's side to the original, up to 16; 1: no padding.
    crop_min_scale: smallest side of a crop, as a fraction of the image's side; 1: no crops.
    flip: probability of a horizontal flip.
    flip_vertical: probability of a vertical flip.
    transpose: probability of exchanging rows and columns.
    """

    photometric: Fraction = 0.5
    expand: Annotated[float, Field(ge=1, le=16)] = 4.0
    crop_min_scale: PositiveFraction = 0.3
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    transpose: Fraction = 0.0


class ResizeConfig(Section):
    """Augmentation for detectors that keep the aspect ratio of images (Mask R-CNN, Faster R-CNN).

    short_sides: the shorter side of each image is drawn from these, in pixels; none: the model's own size.
    flip: probability of a horizontal flip.
    """

    short_sides: tuple[PositiveInt, ...] = ()
    flip: Fraction = 0.5


class ParameterRule(Section):
    """Parameters with a learning rate and weight decay of their own.

    match: pattern of parameter names, in which * stands for any characters: "heads.*.bias".
    rate: multiple of the learning rate; null: as without this rule.
    decay: multiple of the weight decay; null: as without this rule.
    """

    match: str
    rate: NonNegativeFloat | None = None
    decay: NonNegativeFloat | None = None


class OptimizerConfig(Section):
    """The optimizer.

    kind: "sgd", or "rmsprop" with a decay of 0.99 for the mean square, as in Caffe (which has momentum 0).
    learning_rate: base rate, which the schedule scales.
    momentum: for both kinds.
    weight_decay: for weights of convolutions and linear layers.
    decay_norms: also decay norm parameters and biases of the backbone and neck, as Caffe does.
    rules: learning rates and weight decay of single parameters, like Caffe's lr_mult and decay_mult. The first rule
        that matches the name of a parameter holds for it.
    clip_norm: largest norm of the gradient; null: no clipping.
    """

    kind: Literal["sgd", "rmsprop"] = "sgd"
    learning_rate: PositiveFloat = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    decay_norms: bool = False
    rules: tuple[ParameterRule, ...] = ()
    clip_norm: PositiveFloat | None = None


class LossConfig(Section):
    """The loss.

    use_difficult: train on VOC's difficult objects too; null: as in the detector's original code (DSOD yes, RefineDet
        no).
    arm_iou_threshold: an anchor of RefineDet's ARM is positive if its IoU with an object is at least this, or if it is
        the best anchor for an object. The authors use 0.7 for VOC.
    arm_negative_iou_threshold: an anchor of RefineDet's ARM is negative if its IoU with every object is below this. The
        authors use 0.3 for VOC.
    """

    use_difficult: bool | None = None
    arm_iou_threshold: Fraction = 0.5
    arm_negative_iou_threshold: Fraction = 0.5


class ScheduleConfig(Section):
    """The length of the run and its learning rates. Give one of `iterations`, `epochs` and `minutes`.

    iterations: number of optimizer steps, up to 1,000,000,000.
    epochs: number of passes over the training images, up to 1,000,000.
    minutes: time for steps, evaluations and checkpoints, up to 1,000,000. The rate of a "cosine" schedule then follows
        the time, so that no two such runs are exactly the same. For one process only.
    kind: "step": the rate is multiplied by `gamma` at each of `milestones`; "cosine": it falls to 0 over the run.
    milestones: optimizer steps, up to 1,000 of them.
    gamma: factor of the rate at a milestone.
    warmup_iterations: steps of linear warm-up.
    warmup_factor: the warm-up starts at this fraction of the rate.
    """

    iterations: Annotated[int, Field(gt=0, le=10**9)] | None = None
    epochs: Annotated[float, Field(gt=0, le=10**6)] | None = None
    minutes: Annotated[float, Field(gt=0, le=10**6)] | None = None
    kind: Literal["step", "cosine"] = "step"
    milestones: Annotated[tuple[int, ...], Field(max_length=1000)] = ()
    gamma: PositiveFraction = 0.1
    warmup_iterations: NonNegativeInt = 0
    warmup_factor: PositiveFraction = 0.01

    def model_post_init(self, _: Any) -> None:
        lengths = {"iterations": self.iterations, "epochs": self.epochs, "minutes": self.minutes}
        given = [name for name, length in lengths.items() if length is not None]
        if len(given) != 1:
            others = " or ".join(f"schedule.{name}=null" for name in given)
            null = f": set {others}" if given else ""
            raise ValueError(f"give one of iterations, epochs and minutes; the others must be null{null}")


class TrainConfig(Section):
    """One training run.

    model: a detector of `vovnet.create_model`; the number of classes comes from the data.
    model_options: options of `vovnet.create_model`.
    weights: what the whole detector starts from: a bundled name, a file, a run folder, a URL or hf:OWNER/NAME, of
        the same model. Classes that it lacks start with random logits; null: random weights.
    backbone_weights: what the backbone starts from: a file, a URL, hf:OWNER/NAME, timm/NAME, torchvision/NAME or
        pytorchcv/NAME; null: random weights.
    default_boxes: "published" or, for one-stage detectors, "data": fitted to the sizes of the training objects.
    data: the images to train and evaluate on.
    augment: augmentation for detectors with an input of fixed size.
    resize: augmentation for detectors that keep the aspect ratio (Mask R-CNN, Faster R-CNN).
    optimizer: the optimizer.
    loss: the loss.
    schedule: the length of the run and its learning rates.
    batch_size: images per optimizer step, over all processes; up to 65,536.
    micro_batch_size: images per forward pass of one process, or fewer if its share of the batch is smaller.
    norm_batch_size: images whose statistics a batch norm takes together in training, and whose loss shares a
        normaliser, as if they were a pass of their own; one-stage detectors only. null: all images of a pass.
    precision: "bf16" and "fp16" are mixed precision, fp16 on CUDA GPUs only; "auto" is bf16 on a GPU that supports it,
        else fp32. bf16 is about twice as fast as fp32 on CPUs with AVX512-BF16 or AMX, and slower on others.
    device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    channels_last: train with the channels of a pixel together in memory; false: each channel by itself; null: true.
    compile: compile the network with torch.compile; "graphs": and start its kernels as CUDA graphs. One-stage detectors
        only. Checkpoints and evaluation stay the same.
    sync_bn: compute batch norm statistics over all processes (GPUs only).
    norm_momentum: share of each forward pass in the running averages of batch norm. The averages start with the first
        pass, not with 0 and 1, so that a small share is no harm to a short run; null: PyTorch's 0.1, which starts with
        0 and 1. Caffe's moving_average_fraction 0.999 is 0.001.
    ema_decay: decay of the average of the weights, which is then evaluated and saved; null: no average.
    seed: seed of everything random, of at most 63 bits.
    workers: loader processes per training process, up to 1,024; "auto": 2, and on CUDA one per core but one, divided by
        the processes of the host, up to 16.
    draw_images: where training images are warped and their colours changed, for detectors with an input of fixed size:
        "workers", or "device", to which the loader processes then send the parts as decoded; "auto": on the device if
        it is a GPU with CUDA. The pixels are the same within rounding.
    threads: CPU threads, up to 4,096; null: PyTorch's default.
    metric: the best weights are those with the highest value of this metric on `val`.
    evaluate_every: epochs between evaluations.
    early_stop: end the run if so many evaluations in a row bring no better metric; null: train to the end.
    checkpoint_every: optimizer steps between checkpoints.
    log_every: optimizer steps between log lines.
    tensorboard: also log to TensorBoard; null: if the extra "train" is installed.
    output: folder for weights, checkpoint, log and record.
    resume: continue from the checkpoint in `output` if there is one.
    """

    model: str
    model_options: dict[str, Any] = {}
    weights: str | None = None
    backbone_weights: str | None = None
    default_boxes: Literal["published", "data"] = "published"
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    resize: ResizeConfig = ResizeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig
    batch_size: BatchSize
    micro_batch_size: BatchSize
    norm_batch_size: BatchSize | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    channels_last: bool | None = None
    compile: bool | Literal["graphs"] = False
    sync_bn: bool = False
    norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Seed = 0
    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = "auto"
    draw_images: Literal["auto", "workers", "device"] = "auto"
    threads: Annotated[int, Field(gt=0, le=4096)] | None = None
    metric: Literal["voc07_map", "coco_ap", "coco_mask_ap"] = "voc07_map"
    evaluate_every: PositiveInt = 1
    early_stop: PositiveInt | None = None
    checkpoint_every: PositiveInt = 1000
    log_every: PositiveInt = 10
    tensorboard: bool | None = None
    output: Path
    resume: bool = False

    def model_post_init(self, _: Any) -> None:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}; set "
                f"micro_batch_size={math.gcd(self.batch_size, self.micro_batch_size)}"
            )
        if self.early_stop and self.data.val is None:
            raise ValueError("early_stop needs evaluations: set data.val=SPLIT or early_stop=null")
        if self.sync_bn and self.norm_batch_size:
            raise ValueError(
                "sync_bn=true takes the statistics of all processes together, norm_batch_size those of a few images: "
                "set sync_bn=false or norm_batch_size=null"
            )
        if self.sync_bn and self.compile:
            raise ValueError("batch norm across processes cannot be compiled: set sync_bn=false or compile=false")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The settings of one training run, read by `read_config`."""
    return read_config(TrainConfig, path, overrides)
