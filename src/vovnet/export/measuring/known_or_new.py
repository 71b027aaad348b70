"""The file that a runtime runs while runtimes are measured: an export that passed its test here, or a new one."""

from __future__ import annotations

from pathlib import Path

from vovnet.engine.predicting.known_exports import known, remember
from vovnet.engine.predicting.runtimes import EXPORT_TO
from vovnet.errors import UsageError
from vovnet.export.exporting import export_detector
from vovnet.export.measuring.runtime_measurement import RuntimeName, RuntimesMeasurement
from vovnet.weights.detector import digest_of_weights


def exported_file(
    weights: str, name: RuntimeName, folder: Path, *, data: Path | None, split: str | None, threads: int | None
) -> Path:
    """The fastest export of the weights for this runtime that is remembered, else a new one in `folder`.

    data, split, threads: of the test that a new one must pass, see `export_detector`.

    Raises ValueError for what cannot be exported or does not pass, ModuleNotFoundError for a package that is missing.
    """
    for export in known(digest_of_weights(weights), name.runtime):
        if export.precision == name.precision:
            return Path(export.path)
    if name.precision == "int8" and data is None:
        raise UsageError("int8 needs training images to calibrate on: add --data DIR, or name runtimes without int8")
    result = export_detector(
        weights, to=EXPORT_TO[name.runtime], precision=name.precision, data=data, split=split, output=folder,
        threads=threads,
    )  # fmt: skip
    if result.path is None:
        raise ValueError(f"the export did not pass its test: {'; '.join(result.report.reasons)}")
    return result.path


def remember_times(weights: str, measurement: RuntimesMeasurement) -> None:
    """Let `auto` choose by the times of this run, of the exports that it knows."""
    for export in known(digest_of_weights(weights)):
        row = measurement.row(str(RuntimeName(export.runtime, export.precision)))
        if row is not None and row.boxes is not None and row.file == export.path:
            remember(export.model_copy(update={"latency_ms": row.boxes.median_ms}))
