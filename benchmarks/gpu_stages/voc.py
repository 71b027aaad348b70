"""DSOD300-VoVNet-27-slim from random weights on the reduced VOC2007, in the seconds that there are.

A short trial measures images/s; then one cosine run takes what is left. OUTPUT/voc.safetensors gets the weights with
convolutions in half precision, and voc.json their accuracy on the images that were held out. A later run goes on: from
the checkpoint of a run that was stopped on this machine, else from the weights, with a warm restart.

The images are reduced to 400 pixels and training takes minutes, so the accuracy is not comparable with a published one.
Weights that are better on the held-out images replace others, so these images are no test set.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared import ROOT, for_record

from gpu_stages.record import StageRecord
from gpu_stages.stage import Options, Stage, free_memory
from gpu_stages.steady import REHEARSED, span
from gpu_stages.training_settings import NEVER, arguments, training_settings
from gpu_stages.voc_data import find_pack, tiny_pack
from vovnet.data.batches.worker_count import choose_workers
from vovnet.data.formats import open_dataset
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.train import train
from vovnet.files import write_text
from vovnet.names import shipped_weights
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.provenance import device_name
from vovnet.weights.detector import LoadedModel, load_model, save_weights

SECONDS, LEAST_S = 300.0, 90.0
BY_CARD = False
SOURCES = ("src/vovnet/models", "src/vovnet/zoo.py", "configs/voc_dsod300_vovnet27_slim.yaml")
CONFIG = ROOT / "configs/voc_dsod300_vovnet27_slim.yaml"
ENOUGH = 0.45  # held-out VOC07 mAP with which the weights ship
HELD = "held"  # the name of the result
BATCH = 64
LEARNING_RATE = 0.05
RESTART_RATE = 0.02  # of a run that goes on from weights
LOGGED = 10
TAIL_S = 30.0  # for the last checkpoint, the test on the held-out images, the files
SHARE = 0.92  # of the time that is left: a machine that slows down must not cost the end of the run
KEEP_S = 60.0  # between two checkpoints
LARGEST_BYTES = 16 * 2**20
ACCURACY_NOTE = "reduced images and minutes of training: not comparable with published figures"


def settings(options: Options) -> dict[str, Any]:
    return {"batch": BATCH, "learning_rate": LEARNING_RATE, "restart_rate": RESTART_RATE, "share": SHARE}


def is_done(record: StageRecord, key: str) -> bool:
    """Whether the weights are good enough to ship, with whatever code; else a later run trains on."""
    result = record.get(HELD)
    return result is not None and (record.content["rehearsal"] or result["test"]["voc07_map"] >= ENOUGH)


def lacks(options: Options) -> str | None:
    return None if options.rehearse and not options.data else find_pack(options.data)


@dataclass
class Files:
    """Where the stage keeps what it makes."""

    options: Options
    run: Path = field(init=False)

    def __post_init__(self) -> None:
        self.run = self.options.work / "voc"

    @property
    def weights(self) -> Path:
        return self.options.output / "voc.safetensors"

    @property
    def unfinished(self) -> Path:
        """The weights of a run that has not ended, in case that it is killed."""
        return self.options.output / "voc_unfinished.safetensors"

    @property
    def log(self) -> Path:
        return self.options.output / "voc.log.jsonl"

    @property
    def overrides(self) -> Path:
        """The settings of the run in the folder `run`."""
        return self.options.work / "voc_settings.json"


def run(stage: Stage) -> None:
    root = tiny_pack(stage.options.work) if stage.rehearse and not stage.options.data else stage.options.data
    assert root is not None
    files = Files(stage.options)
    number = 1 + sum(name.startswith("round") for name in stage.record.content["results"])
    if not stage.options.again and is_done(stage.record, stage.key):
        return
    trained = _train(stage, root, files, number)
    if trained is None:
        return
    # Under a name of its own for each round, so that going on repeats nothing and overwrites nothing.
    done = stage.measure(f"round {number}", lambda: _finish(stage, root, files, trained, number), least_s=0)
    if done is not None:
        _keep_the_better(stage, files, done)


@dataclass(frozen=True)
class Trained:
    """A run that ended, or that was stopped to be in time."""

    start: str
    steps: int
    planned_steps: int
    images_per_s: float
    seconds: float
    config: TrainConfig


def _train(stage: Stage, root: Path, files: Files, number: int) -> Trained | None:
    began_s = time.monotonic()
    overrides, start = _unfinished_run(files), "the checkpoint of a stopped run"
    if overrides is None:
        weights = _start_weights(files)
        start = "random weights" if weights is None else f"weights of {weights.name}"
        trial = stage.measure(f"trial {number}", lambda: _trial(stage, root), least_s=0)
        if trial is None:
            return None
        left_s = stage.left_s() - (0 if stage.rehearse else TAIL_S)
        steps = 4 if stage.rehearse else int(left_s * SHARE * trial["images_per_s"] / BATCH)
        if steps < 4:
            stage.miss(HELD, f"no time left to train after the trial: {left_s:.0f} s")
            return None
        shutil.rmtree(files.run, ignore_errors=True)
        every = max(1, int(KEEP_S * trial["images_per_s"] / BATCH))
        overrides = _overrides(stage, root, steps=steps, every=every, weights=weights)
        write_text(files.overrides, json.dumps(overrides))
    config = load_config(CONFIG, [*overrides, f"output={files.run}", "resume=true"])
    print(f"trains from {start}: {config.schedule.iterations} steps of {config.batch_size}", flush=True)
    late_s = stage.deadline_s - (0 if stage.rehearse else TAIL_S)
    result = train(config, [_Keeper(files, late_s)])
    assert config.schedule.iterations is not None
    speeds = [entry["images_per_s"] for entry in _log_of(files.run) if "images_per_s" in entry]
    speed = statistics.median(speeds) if speeds else 0.0
    return Trained(start, result.steps, config.schedule.iterations, speed, time.monotonic() - began_s, config)


def _overrides(stage: Stage, root: Path, *, steps: int, every: int = NEVER, weights: Path | None = None) -> list[str]:
    batch = 2 if stage.rehearse else BATCH
    rate = (LEARNING_RATE if weights is None else RESTART_RATE) * batch / 64
    values = {
        **training_settings(stage, root, batch=batch, steps=steps, logged=LOGGED),
        "norm_momentum": 0.01,
        "optimizer.learning_rate": rate,
        "optimizer.clip_norm": 10,
        "schedule.kind": "cosine",
        "schedule.warmup_iterations": min(200, steps // 4),
        "ema_decay": 0.999,
        "checkpoint_every": every,
        "weights": "null" if weights is None else weights,
    }
    return arguments(values)


def _trial(stage: Stage, root: Path) -> Mapping[str, Any]:
    """Images/s that training keeps up."""
    folder = stage.options.work / "voc_trial"
    shutil.rmtree(folder, ignore_errors=True)
    steady = REHEARSED if stage.rehearse else span(choose_workers(stage.device.type), LOGGED)
    overrides = _overrides(stage, root, steps=steady.steps)
    train(load_config(CONFIG, [*overrides, f"output={folder}"]))
    speeds = [entry["images_per_s"] for entry in _log_of(folder) if "images_per_s" in entry]
    free_memory()
    return {"images_per_s": steady.speed(_log_of(folder)), "batch": BATCH, "logged": speeds}


class _Keeper:
    """A log hook that keeps the weights of each checkpoint, and stops the run when its time is over."""

    def __init__(self, files: Files, late_s: float) -> None:
        self.files, self.late_s = files, late_s
        self.kept_s = 0.0

    def __call__(self, record: Mapping[str, Any]) -> None:
        checkpoint = self.files.run / "last.pt"
        changed_s = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
        if changed_s > self.kept_s and record["step"] > 1:
            self.kept_s = changed_s
            save_half(self.files.unfinished, load_model(checkpoint), {"note": "of a run that has not ended"})
        if time.monotonic() > self.late_s and record["step"] < record["steps"]:
            self.late_s = float("inf")
            os.kill(os.getpid(), signal.SIGTERM)  # training stops after this step and keeps a checkpoint


def _unfinished_run(files: Files) -> list[str] | None:
    """The settings of a run that was stopped in the folder of work; None if there is none."""
    if not (files.run / "last.pt").is_file() or (files.run / "record.json").is_file() or not files.overrides.is_file():
        return None
    overrides: list[str] = json.loads(files.overrides.read_text())
    return overrides


def _start_weights(files: Files) -> Path | None:
    """Weights to go on from: of a run that was killed, of an earlier one, the shipped ones."""
    shipped = shipped_weights().get("voc")
    candidates = (files.unfinished, files.weights, *([shipped] if shipped else []))
    return next((path for path in candidates if path.is_file()), None)


def _log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _finish(stage: Stage, root: Path, files: Files, trained: Trained, number: int) -> dict[str, Any]:
    """Test the weights on the held-out images in the form in which they are kept, and write them beside the older."""
    finished = (files.run / "record.json").is_file()
    loaded = load_model(files.run / ("last.safetensors" if finished else "last.pt"))
    candidate = files.options.work / "voc.safetensors"
    result = {
        "start": trained.start,
        "steps": trained.steps,
        "planned_steps": trained.planned_steps,
        "finished": finished,
        "images_per_s": trained.images_per_s,
        "train_seconds": round(trained.seconds, 1),
        "train_images": len(open_dataset(root, "fit")),
        "trained_on": device_name(stage.device),
        "note": ACCURACY_NOTE,
        "parameters": count_parameters(loaded.model),
        "multiply_adds": count_multiply_adds(loaded.model, loaded.model.preprocessing.image_size),
    }
    save_half(candidate, loaded, result)
    result["test"] = held_out(candidate, root, stage)
    command = stage.record.content["runs"][stage.record.run]["command"]
    save_half(candidate, loaded, {**_trained_with(trained.config, command), **result})
    if candidate.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{candidate} has {candidate.stat().st_size:,} bytes, more than {LARGEST_BYTES:,}")
    _keep_log(files, number)
    if finished:
        shutil.rmtree(files.run)
        files.overrides.unlink(missing_ok=True)
    files.unfinished.unlink(missing_ok=True)
    return result


def _keep_log(files: Files, number: int) -> None:
    """Append the steps of this round to OUTPUT/voc.log.jsonl: a run that goes on also has those of earlier rounds."""
    kept = files.run / "kept_steps"
    before = int(kept.read_text()) if kept.exists() else 0
    log = _log_of(files.run)
    earlier = files.log.read_text() if files.log.exists() else ""
    lines = [json.dumps({"round": number, **entry}) for entry in log if entry["step"] > before]
    write_text(files.log, earlier + "".join(f"{line}\n" for line in lines))
    write_text(kept, str(max([before, *(entry["step"] for entry in log)])))


def _trained_with(config: TrainConfig, command: str) -> dict[str, Any]:
    """The command, and the settings without the paths of the machine."""
    values = config.model_dump(mode="json")
    values["data"]["root"], values["output"], values["weights"] = "voc07", "runs/gpu/voc", None
    return {"config": values, "command": command}


def held_out(weights: Path, root: Path, stage: Stage) -> dict[str, Any]:
    loaded = load_model(weights)
    dataset = open_dataset(root, "held", class_names=loaded.info.class_names)
    detector = Detector(loaded.model, loaded.info.class_names, loaded.info.category_ids, device=stage.device)
    workers = 0 if stage.rehearse else max(1, (os.cpu_count() or 2) - 1)
    evaluation = evaluate(detector, dataset, batch_size=2 if stage.rehearse else 32, workers=workers)
    return {**for_record(evaluation, "voc07"), "split": "held"}


def save_half(path: Path, loaded: LoadedModel, record: Mapping[str, Any]) -> None:
    """Weights with convolutions in half precision, which halves the file."""
    state = {name: value.half() if value.ndim == 4 else value for name, value in loaded.model.state_dict().items()}
    save_weights(path, state, loaded.info, record)


def _keep_the_better(stage: Stage, files: Files, done: Mapping[str, Any]) -> None:
    """OUTPUT/voc.safetensors and the result "held" are those of the round that is best on the held-out images."""
    best = stage.record.content["results"].get(HELD)
    score = done["test"]["voc07_map"] or 0.0
    kept = not files.weights.is_file() or best is None or score >= (best["test"]["voc07_map"] or 0.0)
    if kept:
        shutil.move(files.options.work / "voc.safetensors", files.weights)
        best = {name: value for name, value in done.items() if name not in ("key", "run", "seconds")}
    stage.record.put(HELD, stage.key, best)
    print(
        f"held-out VOC07 mAP {score:.4f}; {'kept' if kept else 'the earlier weights are better and stay'}", flush=True
    )
    if score < ENOUGH and not stage.rehearse:
        print(f"below {ENOUGH}: a later run goes on from {files.weights.name}", flush=True)
