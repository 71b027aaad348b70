"""What a weights file says about its network, validated: files come from strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from vovnet.errors import is_out_of_memory
from vovnet.parsing import parse_json
from vovnet.printing import line, quoted
from vovnet.records import first_fault
from vovnet.weights.file import problem

_DEEPEST = 50
_MOST_VALUES = 100_000
_WIDEST = 2**20  # channels, proposals, pixels of a side: enough for any network, too few for an overflow

T = TypeVar("T", bound=BaseModel)

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e6)]
Count = Annotated[int, Field(strict=True, ge=1, le=_WIDEST)]
Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=200)]


def _json(value: Any) -> Any:
    """The value of a JSON text, as safetensors files hold it; others as they are."""
    return parse_json(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """The value, if it consists of at most so many texts, finite numbers, lists and dicts, so that JSON can hold it."""
    left = _MOST_VALUES

    def check(part: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > _DEEPEST or left < 0:
            raise ValueError(f"more than {_DEEPEST} levels or {_MOST_VALUES:,} values")
        if isinstance(part, Mapping):
            for key, inner in part.items():
                if not isinstance(key, str | int | float | None):
                    raise ValueError(f"a key that is no text: {quoted(key, 40)}")
                check(inner, depth + 1)
        elif isinstance(part, list | tuple):
            for inner in part:
                check(inner, depth + 1)
        elif part is not None and not isinstance(part, str | int | float | bool):
            raise ValueError(f"a {type(part).__name__}, which JSON cannot hold")

    check(value, 0)
    return value


def _setting(value: Any) -> Any:
    """The value of an option: no number in it can overflow."""
    if isinstance(value, Mapping):
        for inner in value.values():
            _setting(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _setting(inner)
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= _WIDEST):
        raise ValueError(f"the number {quoted(value, 30)}")
    return value


FromJson = BeforeValidator(_json)
Pairs = Annotated[dict[str, Any], BeforeValidator(_plain), FromJson]


class Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)


class Pixels(Metadata):
    """How the images of the training were normalised."""

    mean: tuple[Number, Number, Number]
    std: tuple[Deviation, Deviation, Deviation]
    channel_order: Literal["RGB", "BGR"]


def _options(value: Any) -> Any:
    """The arguments of a network as far as they can be any network's; what it takes, it says when it is built."""
    _setting(_plain(value))
    if isinstance(value, Mapping) and (reserved := value.keys() & {"name", "num_classes"}):
        raise ValueError(f"no network has an option called {min(reserved)}")
    return value


Options = Annotated[dict[str, Any], BeforeValidator(_options), FromJson]


class DetectorMetadata(Metadata):
    """Of a detector, in the safetensors file and, as `info`, in a checkpoint."""

    name: Name
    options: Options
    class_names: Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1)], ...], Field(min_length=1), BeforeValidator(_json)
    ]
    category_ids: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)], ...], BeforeValidator(_json)
    ]
    score_thresholds: Annotated[tuple[Fraction, ...], BeforeValidator(_json)] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> DetectorMetadata:
        for what, values in (("class_names", self.class_names), ("category_ids", self.category_ids)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} repeats {quoted(next(v for v in values if values.count(v) > 1), 60)}")
        if len(self.class_names) != len(self.category_ids):
            raise ValueError(f"{len(self.class_names)} class_names and {len(self.category_ids)} category_ids")
        if self.score_thresholds is not None and len(self.score_thresholds) != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} class_names and {len(self.score_thresholds)} score_thresholds")
        return self


class DetectorFile(DetectorMetadata):
    """The metadata of a detector's safetensors file."""

    name: Name = Field(validation_alias="model")
    options: Options = Field(validation_alias="model_options")
    record: Pairs


class BackboneFile(Metadata):
    """The metadata of a backbone's safetensors file."""

    name: Name = Field(validation_alias="model")
    options: Options = Field(validation_alias="model_options")
    pixels: Annotated[Pixels, FromJson]


class Checkpoint(Metadata):
    """What is read of a checkpoint to use its detector."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    info: DetectorMetadata
    config: Pairs


def validated(model: type[T], values: Mapping[str, Any], fail: Callable[[str], ValueError]) -> T:
    """The values as the model. fail: makes the error of a reason."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise fail(first_fault(error)) from None


def damaged_metadata(source: str | Path, reason: str) -> ValueError:
    return problem(source, f"has damaged metadata ({reason}); download or copy it again")


@contextmanager
def refused_options(source: str | Path) -> Iterator[None]:
    """Names the file where the network that it states cannot be built."""
    try:
        yield
    except Exception as error:  # of the libraries that build the network
        if isinstance(error, ModuleNotFoundError) or is_out_of_memory(error):
            raise
        raise damaged_metadata(source, line(str(error) or type(error).__name__, 250)) from error
