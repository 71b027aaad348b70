"""The records of `make gpu`, which a folder of records has in its subfolder gpu/."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vovnet.paper.records import Run, check_aggregation
from vovnet.profiling.ranges import Count, NonNegative, Positive, Size
from vovnet.records import RecordPart, read_record

FOLDER = "gpu"
MOST = 1_000  # runs and results of a stage
Pair = Annotated[list[NonNegative], Field(min_length=2, max_length=2)]


class _Machine(RecordPart):
    card: str


class _GpuRun(RecordPart):
    machine: _Machine | None = None  # None: its process failed before it was begun


class _Stage(RecordPart):
    stage: str
    rehearsal: bool
    runs: Annotated[dict[str, _GpuRun], Field(max_length=MOST)]
    results: Annotated[dict[str, dict[str, Any]], Field(max_length=MOST)]


class Result(RecordPart):
    """What every result has.

    run: which run of the stage made it.
    key: of the code, the settings and the versions that it was measured with.
    """

    run: str
    key: str


class ModelTimes(RecordPart):
    median_ms: Positive
    images_per_s: Positive
    times_s: Annotated[list[Positive], Field(min_length=1, max_length=10_000)]


class Times(Result):
    """The times of models that were timed interleaved, so that their ratios hold.

    left_out: models of the group that could not be run in this way, each with the reason.
    """

    precision: str
    batch: Size
    run_mode: Literal["eager", "graph", "compile"]
    reference: str
    models: Annotated[dict[str, ModelTimes], Field(min_length=1, max_length=MOST)]
    left_out: Annotated[dict[str, str], Field(max_length=MOST, default_factory=dict)]


class OtherMethod(RecordPart):
    method: str
    j_per_image: Positive


class Joules(Result):
    """Joules per image of a model. interval_j: 95 %, over the trials. check: by another method, in the same windows."""

    model: str
    precision: str
    batch: Size
    run_mode: Literal["eager", "graph", "compile"]
    method: str
    j_per_image: Positive
    interval_j: Pair | None
    trials_j: Annotated[list[Positive], Field(min_length=1, max_length=MOST)]
    check: OtherMethod | None
    disputed: bool


class Memory(Result):
    model: str
    precision: str
    batch: Size
    peak_mib: NonNegative | None
    method: str


class Kernels(Result):
    """kernels_ms: what the kernels of a pass take by themselves."""

    model: str
    precision: str
    batch: Size
    kernels_ms: Positive


class Operations(Result):
    model: str
    multiply_adds: Count


def read_stage(records: Path | None, stage: str) -> dict[str, Any] | None:
    """The record of a stage; None if there is none. ValueError for one that is none, or of a rehearsal."""
    path = None if records is None else records / FOLDER / f"{stage}.json"
    if path is None or not path.is_file():
        return None
    content: dict[str, Any] = read_record(path, _Stage, f"a record of the stage {stage} of `make gpu`")
    if content["stage"] != stage or content["rehearsal"]:
        what = "of a rehearsal, whose values mean nothing" if content["rehearsal"] else f"of {content['stage']}"
        raise ValueError(f"{path} is {what}: expected a record of the stage {stage} on a GPU")
    return content


def measured_results(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The results without those that failed."""
    return {name: result for name, result in content["results"].items() if "error" not in result}


def card_of(content: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The card that a result was measured on."""
    run = content["runs"].get(result["run"])
    return str(run["machine"]["card"]) if run and run.get("machine") else "an unknown card"


def comparable(content: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two results were measured on the same card with the same code, so that their ratio means something."""
    return first["key"] == second["key"] and card_of(content, first) == card_of(content, second)


def gpu_study(records: Path | None, networks: Collection[str]) -> list[Run]:
    """The networks of the aggregation study that were trained on a GPU."""
    content = read_stage(records, "study")
    if content is None or records is None:
        return []
    runs: list[Run] = [result for name, result in measured_results(content).items() if name in networks]
    check_aggregation(runs, networks, records / FOLDER / "study.json")
    return runs
