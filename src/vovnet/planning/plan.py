"""From a folder of labelled images to the config of a training run, with a reason for each choice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vovnet.engine.config import BatchSize, Section, TilesConfig, TrainConfig
from vovnet.engine.config_file import override, validated
from vovnet.engine.distributed import choose_device
from vovnet.errors import UsageError, counted
from vovnet.planning.candidates import BATCH_SIZE, CANDIDATES, FINE_TUNING, Candidate
from vovnet.planning.choice import Tried, choose, named_candidate, possible_candidates
from vovnet.planning.facts import Facts, read_facts
from vovnet.planning.recipe import evaluation_seconds, final_config, first_config, length_of, reasons_of
from vovnet.planning.splits import VAL_FRACTION, Splits, find_splits, take_val_from_train
from vovnet.planning.trial import MOST_S, try_detector
from vovnet.weights.detector import load_weights

REPORT_S = 20.0  # for the metrics, the plots and the pages at the end
_OPENED_AGAIN = 2  # times: for the training, and val and test for the report
_LENGTHS = ("iterations", "epochs", "minutes")
_LEAST_S = 5.0  # of training
_TOO_SLOW = "the slower ones would have too little time to learn"
_TOO_FEW = "with so few images it is the most accurate"
_TRYING = 0.05  # of the time, for each candidate

Say = Callable[[str], None]


class _Batch(Section):
    size: BatchSize


@dataclass(frozen=True)
class Request:
    """What somebody wants.

    root: the dataset.
    output: the run folder.
    settings: key=value arguments, which come before what the plan would choose.
    minutes: for everything from `started`, a time of the monotonic clock, to the report; None for no limit.
    max_ms: most milliseconds for one image on this machine.
    weights: what to start from.
    compare_images: whether images are decoded to keep nearly equal ones together in a split.
    """

    root: Path
    output: Path
    settings: tuple[str, ...] = ()
    minutes: float | None = None
    max_ms: float | None = None
    weights: str | None = None
    started: float = 0.0
    compare_images: bool = True

    def given(self) -> dict[str, Any]:
        """The settings as sections of keys and values."""
        values: dict[str, Any] = {}
        override(values, self.settings)
        return values

    def start(self) -> str | None:
        """The weights to start from, from the request or its settings."""
        weights = self.weights or self.given().get("weights")
        return None if weights is None else str(weights)


@dataclass(frozen=True)
class Plan:
    """A run and why it is so.

    reasons: one line for each choice.
    seconds: that training, evaluation and report will take.
    test: name of the split that is for the end; None without one.
    """

    config: TrainConfig
    reasons: tuple[str, ...]
    seconds: float
    test: str | None


def check_request(request: Request) -> None:
    """Find what no plan can follow, whatever the data, before time is spent on them.

    Raises UsageError, or ValueError or OSError for weights that cannot be read.
    """
    given, start = request.given(), request.start()
    if request.weights is not None and given.get("weights") is not None:
        raise UsageError("--from and weights=… both name weights: give one of them")
    batch_size = _batch_size(given)
    _with_settings(
        {
            "model": CANDIDATES[0].model,
            "data": {"root": str(request.root)},
            "schedule": {"iterations": 1},
            **dict.fromkeys(("batch_size", "micro_batch_size"), batch_size),
        },
        request,
    )
    choose_device(str(given.get("device", "auto")))
    stated = _stated_length(given)
    if request.minutes is not None and stated:
        raise UsageError(f"--minutes and schedule.{next(iter(stated))} are two lengths of the run: give one of them")
    model = given.get("model")
    if model is not None:
        named_candidate(model, request.root)
    if start is not None:
        name = load_weights(start).info.name
        if model not in (None, name):
            raise UsageError(f"{start} has weights of {name}, and model={model} is another detector: give one of them")
        named_candidate(name, request.root)


def wanted_splits(request: Request) -> tuple[Splits, bool]:
    """The splits of the dataset, as the settings name them, and whether there will be no val because they say so."""
    splits = find_splits(request.root)
    data = request.given().get("data", {})
    data = data if isinstance(data, dict) else {}
    no_val = "val" in data and data["val"] is None
    train, val = str(data.get("train", splits.train)), data.get("val", splits.val)
    val = None if val is None else str(val)
    return Splits(splits.root, train, val, None if splits.test in (train, val) else splits.test), no_val


def make_plan(request: Request, splits: Splits, *, no_val: bool, say: Say) -> Plan:
    """Choose everything that the settings leave open. The data must have passed the check.

    no_val: do without evaluation. Else a dataset without val gets one, in a split file in the output folder.
    say: is told what is being done and what was measured.

    Raises UsageError if nothing is fast enough, or there is too little time.
    """
    reasons = []
    if splits.val is None and not no_val:
        try:
            splits = take_val_from_train(splits, request.output, compare_images=request.compare_images)
        except ValueError as error:
            raise ValueError(f"no images for val: {error}; data.val=null trains without evaluation") from error
        reasons.append(f"val: {VAL_FRACTION:.0%} of the training images ({splits.root}), each class with its share")
    given = request.given()
    facts = read_facts(splits, _tiles(given), seed=int(given.get("seed", 0)))
    reasons.insert(0, _describe_data(facts))
    device = choose_device(str(given.get("device", "auto")))
    weights = request.start()
    candidates = _candidates(facts, given.get("model"), weights)
    tried = _try_all(request, facts, candidates, device, say)
    untried = _TOO_SLOW if len(candidates) > 1 else _TOO_FEW
    alone = f"the detector of {weights}" if weights else "as asked for" if "model" in given else untried
    chosen, why = choose(tried, request.max_ms, alone=alone)
    reasons.append(why)
    values = _first_values(chosen.candidate, facts, request)
    values = final_config(values, chosen.trial, chosen.length, facts, chosen.step_s)
    config = _with_settings(values, request)
    reasons += reasons_of(chosen.candidate, facts, chosen.trial, config, chosen.length)
    return Plan(config, tuple(reasons), chosen.length.seconds + _reserve(chosen, facts), splits.test)


def _tiles(given: Mapping[str, Any]) -> TilesConfig | None:
    data = given.get("data")
    stated = data.get("tiles") if isinstance(data, dict) else None
    return None if stated is None else validated(TilesConfig, stated, "data.tiles")


def _describe_data(facts: Facts) -> str:
    parts = [(facts.splits.train, facts.train), (facts.splits.val, facts.val), (facts.splits.test, facts.test)]
    images = ", ".join(f"{name} {len(dataset)}" for name, dataset in parts if dataset is not None)
    classes = counted(len(facts.train.class_names), "class", "classes")
    return f"data: {images} images, {classes}, objects of {facts.median_side:.0%} of the image's side (median)"


def _candidates(facts: Facts, model: str | None, weights: str | None) -> tuple[Candidate, ...]:
    """Those to try; with weights to start from, only their detector, with their options."""
    if weights is None:
        return possible_candidates(facts, model)
    info = load_weights(weights).info
    candidate = named_candidate(info.name)
    rate = round(FINE_TUNING * candidate.learning_rate, 6)
    return (replace(candidate, options=info.options, learning_rate=rate, evidence=f"starts from {weights}"),)


def _try_all(
    request: Request, facts: Facts, candidates: Sequence[Candidate], device: torch.device, say: Say
) -> list[Tried]:
    """Try one after the other, from the fastest on, as long as a slower one may have the time to learn."""
    tried: list[Tried] = []
    most_s = MOST_S if request.minutes is None else min(MOST_S, _TRYING * 60 * request.minutes)
    for candidate in candidates:
        if tried and request.minutes is not None and tried[-1].images < candidate.least_images:
            break
        values = _first_values(candidate, facts, request)
        say(f"trying {candidate.model}")
        trial = try_detector(_with_settings(values, request, "schedule"), facts.train, device, most_s=most_s)
        step_s = trial.seconds_per_step(device)
        item = Tried.of(
            candidate, trial, length_of(candidate, facts, trial, step_s=step_s, seconds=None, epochs=None), device
        )
        tried.append(replace(item, length=_length(request, facts, item)))
        say(tried[-1].describe())
    return tried


def _length(request: Request, facts: Facts, item: Tried) -> Any:
    """The length of a run: what the settings say, or what the minutes leave, or the usual number of epochs."""
    stated = _stated_length(request.given())
    seconds, epochs = None, None
    if request.minutes is not None:
        spent = time.monotonic() - request.started
        seconds = 60 * request.minutes - spent - _reserve(item, facts)
        if seconds < _LEAST_S:
            least = math.ceil((spent + _reserve(item, facts) + 60) / 60)
            raise UsageError(
                f"{request.minutes:g} minutes are too few: the check and the trials took {spent:.0f} s, and the "
                f"evaluation at the end needs {_reserve(item, facts):.0f} s; give --minutes {least} or more"
            )
    if "minutes" in stated:
        seconds = 60 * float(stated["minutes"])
    elif "epochs" in stated:
        epochs = float(stated["epochs"])
    elif "iterations" in stated:
        epochs = float(stated["iterations"]) * item.trial.batch_size / len(facts.train)
    return length_of(item.candidate, facts, item.trial, step_s=item.step_s, seconds=seconds, epochs=epochs)


def _reserve(item: Tried, facts: Facts) -> float:
    """Seconds for what comes beside the training: opening the data again, the last evaluations, the report."""
    images = sum(len(dataset) for dataset in (facts.val, facts.test) if dataset is not None)
    val = 0 if facts.val is None else len(facts.val)
    spent_s = REPORT_S + _OPENED_AGAIN * facts.opening_s
    return spent_s + evaluation_seconds(item.trial, facts, images + val)


def _first_values(candidate: Candidate, facts: Facts, request: Request) -> dict[str, Any]:
    values = first_config(candidate, facts, request.output, _batch_size(request.given()))
    return values if request.weights is None else values | {"weights": request.weights}


def _batch_size(given: Mapping[str, Any]) -> int:
    return validated(_Batch, {"size": given.get("batch_size", BATCH_SIZE)}, "batch_size").size


def _stated_length(given: Mapping[str, Any]) -> dict[str, Any]:
    """The key of the schedule that states how long the run is, if one does."""
    schedule = given.get("schedule")
    schedule = schedule if isinstance(schedule, dict) else {}
    return {key: schedule[key] for key in _LENGTHS if schedule.get(key) is not None}


def _with_settings(values: Mapping[str, Any], request: Request, without: str = "") -> TrainConfig:
    """The config with the settings of the request, but for a section that the trials do without."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    if _stated_length(request.given()):
        merged["schedule"] = {key: value for key, value in merged["schedule"].items() if key not in _LENGTHS}
    settings = [s for s in request.settings if not (without and s.startswith(f"{without}."))]
    override(merged, [s for s in settings if not s.startswith(("data.root=", "data.train=", "data.val="))])
    if without:
        merged[without] = values[without]
    merged["output"] = str(request.output)
    return validated(TrainConfig, merged, str(request.root))
