"""One detector in several runtimes, measured in one run: `vovnet measure bccd --runtimes torch onnxruntime …`."""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.errors import explain
from vovnet.export.measuring.accuracy import save_pixels, worker_accuracy
from vovnet.export.measuring.known_or_new import exported_file, remember_times
from vovnet.export.measuring.runtime_measurement import TORCH, RuntimeName, RuntimeRow, RuntimesMeasurement
from vovnet.export.measuring.timing import time_in_turn, watch_workers
from vovnet.export.measuring.worker_process import Worker, WorkerError
from vovnet.export.runtime_files import size_bytes
from vovnet.printing import line
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import AnyMethod, measure_energy
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.measurement import Conditions
from vovnet.profiling.speed import median_ratio
from vovnet.profiling.surroundings import Surroundings
from vovnet.provenance import device_name, installed_versions
from vovnet.runtime.cpu import instruction_set
from vovnet.weights.detector import load_weights
from vovnet.weights.find import find_weights

MOST_IMAGES = 16
STARTS = 3  # processes whose start is timed; the last of them stays
ENERGY_PASSES = 10  # of one iteration of an energy measurement
PACKAGES = ("vovnet", "torch", "onnxruntime", "openvino", "MNN")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and how.

    threads: of the CPU, in each runtime; None is PyTorch's choice.
    repetitions: timed passes of each row and kind.
    image_paths: images to time on; without them, images of `data`, or random pixels.
    data, split: the dataset of the accuracy.
    exports: folder for new exported files; None is one that is removed at the end.
    energy, meter: as in `measure_models`.
    """

    threads: int | None = None
    repetitions: int = 100
    image_paths: Sequence[Path] = ()
    data: Path | None = None
    split: str | None = None
    exports: Path | None = None
    energy: AnyMethod = "auto"
    meter: Path | None = None
    warmup_limit_s: float = 10.0


def measure_runtimes(
    weights: str, names: Sequence[RuntimeName], plan: Plan, *, on_step: Callable[[str], object] = lambda what: None
) -> RuntimesMeasurement:
    """A row for each name: a runtime that is missing, or fails, says why in its row, and the others go on.

    weights: see `load_weights`.

    Raises ValueError or OSError for weights, images or data that cannot be read.
    """
    loaded = load_weights(weights)
    dataset = None
    if plan.data is not None:
        dataset = open_dataset(plan.data, plan.split, class_names=loaded.info.class_names)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images, source = _save_images(plan, dataset, folder)
        run = _Run(weights, plan, images, folder, on_step)
        stack.callback(run.close)
        for name in names:
            run.start(name)
        surroundings = run.time()
        for name in names:
            run.measure_alone(str(name), dataset)
    conditions = Conditions(
        run=secrets.token_hex(4),
        date=datetime.now(UTC).date().isoformat(),
        device="cpu",
        device_name=device_name(torch.device("cpu")),
        threads=run.threads,
        system=platform.platform(),
        software={"python": platform.python_version(), **installed_versions(PACKAGES)},
        peak=None,
        surroundings=surroundings,
    )
    measurement = RuntimesMeasurement(
        model=weights,
        detector=loaded.info.name,
        instructions=instruction_set(),
        images=len(images),
        image_source=source,
        conditions=conditions,
        rows=tuple(run.rows.values()),
    )
    remember_times(weights, measurement)
    return measurement


def _save_images(plan: Plan, dataset: DetectionDataset | None, folder: Path) -> tuple[list[str], str]:
    """The files of the pixels to time on, and what they are."""
    paths, source = [*plan.image_paths[:MOST_IMAGES]], "the given images"
    if not paths and dataset is not None:
        paths = [dataset[index].image_path for index in range(min(MOST_IMAGES, len(dataset)))]
        source = f"images of {dataset.split} of {dataset.root.resolve().name}"
    files = [folder / f"image{number}.npy" for number in range(max(1, len(paths)))]
    for path, file in zip(paths, files, strict=False):
        save_pixels(path, file)
    if not paths:
        source = "an image of random pixels, 640×480, in which little is found"
        np.save(files[0], np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    return [str(file) for file in files], source


class _Run:
    """The rows so far, and the processes of those that work."""

    def __init__(
        self,
        weights: str,
        plan: Plan,
        images: Sequence[str],
        folder: Path,
        on_step: Callable[[str], object],
    ) -> None:
        self.weights, self.plan, self.folder, self.on_step = weights, plan, folder, on_step
        self.images = list(images)
        self.threads = plan.threads or torch.get_num_threads()
        self.sensor = Meter(plan.meter) if plan.meter is not None else find_sensor("cpu")
        self.rows: dict[str, RuntimeRow] = {}
        self.workers: dict[str, Worker] = {}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def start(self, name: RuntimeName) -> None:
        """Find the file, and start its process several times; the last stays."""
        row = RuntimeRow(name.runtime, name.precision)
        try:
            self.on_step(f"{name}: file")
            file = find_weights(self.weights) if name.runtime == TORCH else self._exported(name)
            row = replace(row, file=str(file), file_bytes=size_bytes(file))
            subject = {"runtime": name.runtime, "file": str(file), "threads": self.threads, "images": self.images}
            starts_s: list[float] = []
            for number in range(1, STARTS + 1):
                self.on_step(f"{name}: start {number} of {STARTS}")
                worker = Worker(subject)
                starts_s.append(worker.start_s)
                if number < STARTS:
                    worker.close()
            self.workers[row.name] = worker
            row = replace(row, start_s=tuple(starts_s), version=str(worker.first["version"]))
        except Exception as error:  # exporters and runtimes raise anything; the other rows go on
            row = replace(row, reason=line(explain(error), 300))
        self.rows[row.name] = row

    def _exported(self, name: RuntimeName) -> Path:
        folder = self.plan.exports or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        plan = self.plan
        return exported_file(self.weights, name, folder, data=plan.data, split=plan.split, threads=self.threads)

    def time(self) -> Surroundings:
        """Enter the times into the rows; what was observed meanwhile."""
        watch = watch_workers([worker.pid for worker in self.workers.values()])
        repetitions = self.plan.repetitions
        times, faults = time_in_turn(
            self.workers,
            repetitions=repetitions,
            warmup_limit_s=self.plan.warmup_limit_s * len(self.workers),
            during=watch,
            on_round=lambda done: self.on_step(f"in turn: {done} of {repetitions}"),
        )
        for name, fault in faults.items():
            self.rows[name] = replace(self.rows[name], reason=fault)
        first = next(iter(times.values()), {})
        for name, kinds in times.items():
            ratio = median_ratio(kinds["boxes"], first["boxes"])
            self.rows[name] = replace(self.rows[name], network=kinds["network"], boxes=kinds["boxes"], ratio=ratio)
        return watch.result()

    def measure_alone(self, name: str, dataset: DetectionDataset | None) -> None:
        """Enter memory, energy and accuracy of one row."""
        if name not in self.workers:
            return
        worker, row = self.workers[name], self.rows[name]
        try:
            row = replace(row, **worker.ask({"memory": True}))
            self.on_step(f"{name}: energy")
            energy = measure_energy(
                lambda: len(worker.seconds("boxes", ENERGY_PASSES)), self.sensor, method=self.plan.energy
            )
            row = replace(row, energy=energy)
            if dataset is not None:
                self.on_step(f"{name}: accuracy")
                row = replace(row, accuracy=worker_accuracy(worker, dataset, self.folder))
        except WorkerError as fault:
            del self.workers[name]
            row = replace(row, reason=str(fault))
        self.rows[name] = row
