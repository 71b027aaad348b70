"""What a training run is: typed, validated, frozen; read from one YAML file and `key=value` arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vovnet.errors import UsageError, did_you_mean

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSource(Section):
    """One split of a data set folder."""

    root: Path
    split: str


class DataConfig(Section):
    """root: folder in VOC, COCO or YOLO form, or of mask PNGs; train, val: its splits (val null: no evaluation).

    more_train: further splits to train on, with the same classes, such as VOC2012 beside VOC2007.
    """

    root: Path
    train: str = "train"
    val: str | None = "val"
    more_train: tuple[DataSource, ...] = ()


class AugmentConfig(Section):
    """See `vovnet.data.transforms.SSDAugmentation`; the defaults are SSD's."""

    photometric: Fraction = 0.5
    expand: Annotated[float, Field(ge=1)] = 4.0
    crop_min_scale: Annotated[float, Field(gt=0, le=1)] = 0.3
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    transpose: Fraction = 0.0


class ResizeConfig(Section):
    """See `vovnet.data.resizing.ResizeAugmentation`: the images of detectors that keep the aspect ratio.

    short_sides: one of them is drawn for each image; none is the model's own. flip: probability.
    """

    short_sides: tuple[Annotated[int, Field(gt=0)], ...] = ()
    flip: Fraction = 0.5


class OptimizerConfig(Section):
    """kind: "sgd", or "rmsprop" with a running mean of 0.99 (Caffe's has momentum 0).

    decay_norms: weight decay also on norm parameters and biases of the body (Caffe's bodies do).
    """

    kind: Literal["sgd", "rmsprop"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    decay_norms: bool = False
    clip_norm: Annotated[float, Field(gt=0)] | None = None


class LossConfig(Section):
    """use_difficult: learn VOC's difficult objects too; null is what the detector's own code does (DSOD yes, RefineDet
    no). arm_iou_threshold, arm_negative_iou_threshold: of RefineDet's first step; its authors' VOC scripts have 0.7
    and 0.3.
    """

    use_difficult: bool | None = None
    arm_iou_threshold: Fraction = 0.5
    arm_negative_iou_threshold: Fraction = 0.5


class ScheduleConfig(Section):
    """How long, and how the learning rate moves.

    Give either iterations (optimizer steps) or epochs. kind "step": times `gamma` at each of `milestones` (iterations);
    "cosine": down to 0 over the run. warmup_iterations: linear from `warmup_factor` of the rate.
    """

    iterations: Annotated[int, Field(gt=0)] | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    kind: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = 0.01


class TrainConfig(Section):
    """One training run.

    model, model_options: as `vovnet.create_model` takes them; the number of classes comes from the data.
    backbone_weights: what the backbone starts from: a file, an address, or timm/NAME; null is random weights.
    augment: of detectors with an input of fixed size; resize: of those that keep the aspect ratio (Mask R-CNN).
    batch_size: images an optimizer step (over all processes); micro_batch_size: images a forward pass of one process,
    or fewer where the processes' shares are smaller.
    precision: "bf16" and "fp16" are mixed precision, fp16 on CUDA only; "auto" is bf16 where the GPU has it, else fp32.
    On CPUs with AVX512-BF16 or AMX, bf16 is about twice as fast as fp32, on others slower.
    ema_decay: average of the weights that is evaluated and shipped; null turns it off.
    metric: what chooses the best weights on val. evaluate_every: epochs; checkpoint_every, log_every: optimizer steps.
    tensorboard: null writes it where the extra "train" is installed.
    workers: loader processes of each process; threads: CPU threads (null: torch's own choice).
    """

    model: str
    model_options: dict[str, Any] = {}
    backbone_weights: str | None = None
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    resize: ResizeConfig = ResizeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig
    batch_size: Annotated[int, Field(gt=0)]
    micro_batch_size: Annotated[int, Field(gt=0)]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    sync_bn: bool = False
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: int = 0
    workers: Annotated[int, Field(ge=0)] = 2
    threads: Annotated[int, Field(gt=0)] | None = None
    metric: Literal["voc07_map", "coco_ap", "coco_mask_ap"] = "voc07_map"
    evaluate_every: Annotated[int, Field(gt=0)] = 1
    checkpoint_every: Annotated[int, Field(gt=0)] = 1000
    log_every: Annotated[int, Field(gt=0)] = 10
    tensorboard: bool | None = None
    output: Path
    resume: bool = False

    def model_post_init(self, _: Any) -> None:
        if (self.schedule.iterations is None) == (self.schedule.epochs is None):
            raise ValueError("schedule needs either iterations or epochs; the other one must be null")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}; set "
                f"micro_batch_size={math.gcd(self.batch_size, self.micro_batch_size)}"
            )


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as everywhere else."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


Schema = TypeVar("Schema", bound=Section)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The settings of one training run, see `read_config`."""
    return read_config(TrainConfig, path, overrides)


def read_config(schema: type[Schema], path: str | Path, overrides: Sequence[str] = ()) -> Schema:
    """Read a YAML file, then apply `key=value` arguments; dots go into sections: optimizer.learning_rate=1e-3.

    Raises FileNotFoundError, or ValueError that names every wrong key (with the nearest right one) and wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config file {path}; the published ones are in configs/")
    values = _parse(path.read_text(), str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold keys and values, got {type(values).__name__}")
    values.setdefault("output", f"runs/{path.stem}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"expected key=value, got {override!r}")
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UsageError(f"{parent!r} in {key!r} is a value, not a section")
        section[last] = _parse(text, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{path}: " + "; ".join(_explain(schema, error))) from None


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def _explain(schema: type[Section], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            yield message
            continue
        *parents, last = [str(part) for part in problem["loc"]]
        name = ".".join([*parents, last])
        if problem["type"] == "extra_forbidden":
            known = _keys_of(schema, parents)
            yield f"unknown key {name!r}" + (did_you_mean(last, known) or f" (there are: {', '.join(known)})")
        else:
            got = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
            yield f"{name}: {message[:1].lower()}{message[1:]}{got}"


def _keys_of(schema: type[Section], parents: Sequence[str]) -> list[str]:
    section: Any = schema
    for parent in parents:
        if not parent.isdigit():
            section = section.model_fields[parent].annotation
        while not hasattr(section, "model_fields"):  # tuple[DataSource, ...]
            section = get_args(section)[0]
    return list(section.model_fields)
