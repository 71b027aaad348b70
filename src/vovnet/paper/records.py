"""What the records that `vovnet reproduce` reads must hold: evaluations, runs on blood cells, the aggregation study.

Each function returns a record as it stands in its file, so that records of earlier versions stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from vovnet.printing import quoted
from vovnet.profiling.ranges import Count, Fraction, NonNegative, Positive, Size
from vovnet.records import RecordPart, first_fault, read_record

Run = Mapping[str, Any]
Value = str | bool | int | float | None  # of a key that is not read, but copied
MOST = 1_000  # runs in a study, classes in a dataset, sources of a layer


class _CocoFigures(RecordPart):
    AP: Fraction | None
    AP50: Fraction | None
    AP75: Fraction | None
    APs: Fraction | None
    APm: Fraction | None
    APl: Fraction | None


class _Evaluation(RecordPart):
    data: str
    split: str
    images: Count
    soft_nms: bool
    voc07_map: Fraction | None
    coco: _CocoFigures
    coco_masks: _CocoFigures | None
    weights: str = ""
    device: str = ""


class _ClassAp(RecordPart):
    voc07_ap: Fraction


class _Test(RecordPart):
    images: Count
    voc07_map: Fraction
    classes: Annotated[dict[str, _ClassAp], Field(min_length=1, max_length=MOST)]


class _Schedule(RecordPart):
    epochs: Positive


class _TrainConfig(RecordPart):
    schedule: _Schedule
    batch_size: Size
    precision: str


class _BloodCells(RecordPart):
    model: str
    seed: int
    parameters: Count
    multiply_adds: Count
    memory_access_cost: Count
    config: _TrainConfig
    trained_on: str
    test: _Test


class _Settings(RecordPart, extra="allow"):
    __pydantic_extra__: dict[str, Value | list[Value]]
    epochs: Positive
    batch_size: Size
    learning_rate: Positive
    weight_decay: NonNegative
    precision: str


_Strengths = Annotated[list[NonNegative | None], Field(min_length=3, max_length=MOST)]  # of a target layer
_Block = Annotated[list[_Strengths], Field(min_length=1, max_length=MOST)]


class _Run(RecordPart, extra="allow"):
    __pydantic_extra__: dict[str, Value | list[Value]]
    network: str
    seed: int
    test_accuracy: Fraction
    train_images: Size
    images: str
    parameters: Count
    multiply_adds: Count
    memory_access_cost: Count
    device: str
    settings: _Settings
    log: list[list[NonNegative]] | None = None
    strengths: Annotated[list[_Block], Field(min_length=3, max_length=3)] | None = None
    targets: Annotated[list[list[str]], Field(min_length=3, max_length=3)] | None = None

    @model_validator(mode="after")
    def _check_blocks(self) -> _Run:
        if {"strengths", "targets"} & self.model_fields_set:
            if self.strengths is None or self.targets is None:
                raise ValueError("strengths and targets must both be there, or neither")
            for number, (block, targets) in enumerate(zip(self.strengths, self.targets, strict=True)):
                if fault := _fault(block, targets):
                    raise ValueError(f"strengths.{number} {fault}")
        return self


def _fault(block: Sequence[Sequence[float | None]], targets: Sequence[str]) -> str:
    """Why the strengths of a block cannot be those of a network, nothing if they can."""
    *intermediate, last = block
    if len(block) != len(targets):
        return f"must have one list for each of the {len(targets)} targets, got {len(block)}"
    if any(len(layer) != len(last) for layer in intermediate):
        return f"must have {len(last)} values in each list, as in the last"
    if not all(last):
        return "must have values above 0 in its last list"
    if not all(any(layer) for layer in intermediate):
        return "must have a value above 0 in each list"
    if intermediate and not all(
        any(layer[source] is not None for layer in intermediate) for source in range(len(last) - 1)
    ):
        return "must have, for each source but the last, a value in a list before the last"
    return ""


class _Study(RecordPart):
    runs: Annotated[list[_Run], Field(max_length=MOST)]


def read_evaluation(path: Path) -> dict[str, Any]:
    """The evaluation of a finished run, as `vovnet evaluate` and `vovnet reproduce --runs` write it."""
    evaluation: dict[str, Any] = read_record(path, _Evaluation, "an evaluation of `vovnet reproduce`")
    return evaluation


def read_blood_cells(path: Path) -> dict[str, Any]:
    """The record of one model and seed."""
    record: dict[str, Any] = read_record(path, _BloodCells, "a record of benchmarks/bccd_study.py")
    return record


def read_aggregation_run(path: Path, networks: Collection[str]) -> dict[str, Any]:
    """The record of one seed of one of the networks of the aggregation study."""
    run: dict[str, Any] = read_record(path, _Run, "a record of a network of `vovnet study aggregation`")
    _check_networks([run], networks, path)
    return run


def read_aggregation(path: Path, networks: Collection[str]) -> list[Run]:
    """The runs of the aggregation study, each of one of its networks."""
    runs: list[Run] = read_record(path, _Study, "a record of `vovnet study aggregation`")["runs"]
    _check_networks(runs, networks, path)
    check_alike(runs, path)
    return runs


def check_aggregation(runs: Sequence[Run], networks: Collection[str], path: Path) -> None:
    """ValueError that names the file unless these are runs of the aggregation study."""
    try:
        _Study.model_validate({"runs": list(runs)})
    except ValidationError as error:
        raise ValueError(f"{path} is not a record of the aggregation study: {first_fault(error)}") from None
    _check_networks(runs, networks, path)
    check_alike(runs, path)


def _check_networks(runs: Sequence[Run], networks: Collection[str], path: Path) -> None:
    for run in runs:
        if run["network"] not in networks:
            raise ValueError(
                f"{path} is not a record of `vovnet study aggregation`: network: must be one of "
                f"{', '.join(networks)}, got {quoted(run['network'], 40)}"
            )


def check_alike(runs: Sequence[Run], path: Path) -> None:
    """ValueError unless the runs of each network have equally many strengths, whose means the figure shows."""
    shapes: dict[str, Any] = {}
    for run in runs:
        shape = [(len(block), len(block[-1])) for block in run.get("strengths") or ()]
        if shape and shapes.setdefault(run["network"], shape) != shape:
            raise ValueError(f"{path} holds runs of {run['network']} with different numbers of strengths")
