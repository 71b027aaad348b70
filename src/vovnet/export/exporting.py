"""`vovnet export`: a detector as a file for another runtime, which appears only if it passes the gate."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.engine.predicting.known_exports import KnownExport, remember
from vovnet.errors import UsageError
from vovnet.export.gate import Verdict, judge
from vovnet.export.gate_report import GateReport
from vovnet.export.judging_images import JudgingImages, calibration_inputs, calibration_paths, judging_images
from vovnet.export.placing import check_replaceable, place, unfinished_folder
from vovnet.export.runtime_files import size_bytes
from vovnet.export.source import check_exportable, describe_export
from vovnet.export.writing import Form, check_form, set_export_info, write_export
from vovnet.files import try_folder, write_json
from vovnet.folder_lock import folder_lock
from vovnet.printing import line
from vovnet.provenance import installed_versions, processor
from vovnet.runtime.cpu import instruction_set
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.opening import open_session
from vovnet.weights.asked_once import asked_once
from vovnet.weights.detector import LoadedModel, load_weights
from vovnet.weights.find import find_exported

_PACKAGES = ("vovnet", "torch", "onnx", "onnxruntime", "openvino", "nncf", "MNN")
_NAMES_OF_RUNS = ("best", "last")


@dataclass(frozen=True)
class ExportResult:
    """What an export led to.

    path: the exported file or folder; None if it did not pass.
    report_path: the report as JSON.
    image: one of those that judged.
    """

    path: Path | None
    report: GateReport
    report_path: Path
    image: Path


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is exported, and how it is judged."""

    weights: str
    to: str
    form: Form
    loaded: LoadedModel
    info: ExportInfo
    images: JudgingImages
    calibration: list[npt.NDArray[np.uint8]]
    max_drop: float
    threads: int | None


@asked_once()
def export_detector(
    weights: str | Path,
    *,
    to: str,
    precision: str = "float32",
    data: Path | None = None,
    split: str | None = None,
    max_drop: float = 0.005,
    calibration_images: int = 100,
    output: Path = Path("exported"),
    threads: int | None = None,
    on_step: Callable[[str], None] = lambda what: None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ExportResult:
    """Export a detector and judge the file; it appears in `output` only if it passes. See `vovnet.export.gate`.

    to: "onnx", "openvino" or "mnn".
    precision: "float32", "bf16" or "int8".
    data, split: the images that judge: a dataset and its split, by default val; in float32 also a folder of images, or
        None for some that ship with vovnet.
    max_drop: largest drop of average precision that passes, as a fraction.
    calibration_images: how many images of the training split give int8 its ranges.
    threads: CPU threads of the exported file; None is its runtime's own choice.
    on_step, on_image: called with what begins, and with the number of judged images and of all.

    An older export of the same name stays if the new one fails. Two at a time cannot write to one folder.

    Raises UsageError for what does not go together, ValueError or OSError for weights or data that cannot be read or a
    detector that cannot be exported, ModuleNotFoundError for a package that is missing.
    """
    form = check_form(to, precision)
    if (exported := find_exported(weights)) is not None:
        raise UsageError(f"{exported} is exported already: name the weights that it was exported from")
    target = output / f"{export_name(str(weights))}{'' if precision == 'float32' else f'_{precision}'}{form.ending}"
    check_replaceable(target, form.ending)
    on_step("reading")
    loaded = load_weights(weights)
    check_exportable(loaded.model, loaded.info.name, to, precision)
    detector = Detector(loaded.model, loaded.info.class_names, loaded.info.category_ids, loaded.record)
    info = describe_export(loaded, precision)
    images = judging_images(data, split, detector, precision)
    calibration = []
    if precision == "int8":
        assert data is not None
        calibration = calibration_inputs(calibration_paths(data, images, calibration_images), info)
    plan = _Plan(
        weights=str(weights), to=to, form=form, loaded=loaded, info=info, images=images, calibration=calibration,
        max_drop=max_drop, threads=threads,
    )  # fmt: skip
    try_folder(output, "choose another --output")
    with folder_lock(output), unfinished_folder(output) as folder:
        return _export(plan, detector, folder / target.name, target, on_step, on_image)


def export_name(weights: str) -> str:
    """The name of exported files: that of the weights, and for those of a run that of its folder."""
    path = Path(weights.rstrip("/\\").partition("?")[0])
    stem = path.name.removesuffix(".safetensors").removesuffix(".pt")
    if stem in _NAMES_OF_RUNS and path.parent.name:
        stem = path.parent.name
    return re.sub(r"[^\w.-]", "_", stem)[:100] or "detector"


def _export(
    plan: _Plan,
    detector: Detector,
    new: Path,
    target: Path,
    on_step: Callable[[str], None],
    on_image: Callable[[int, int], None],
) -> ExportResult:
    started = time.perf_counter()
    on_step("exporting")
    write_export(plan.loaded, plan.info, plan.to, new, plan.calibration or None)
    on_step("judging")
    count = len(plan.images.paths)
    candidate = ExportedDetector(open_session(new, threads=plan.threads), new)
    verdict = judge(
        detector, candidate, plan.images, plan.info, max_drop=plan.max_drop, on_image=lambda done: on_image(done, count)
    )
    report = _report(plan, verdict, new, time.perf_counter() - started)
    name = target.name.removesuffix(".onnx")
    accepted, rejected = (target.with_name(f"{name}.{kind}.json") for kind in ("export", "rejected"))
    if not report.passed:
        write_json(rejected, report.to_dict())
        return ExportResult(None, report, rejected, plan.images.paths[0])
    info = dataclasses.replace(plan.info, gate=report.summary())
    set_export_info(new, info)
    if open_session(new).info.to_json() != info.to_json():
        raise ValueError(f"{line(str(target), 200)} was not written: its description does not read as it should")
    place(new, target)
    write_json(accepted, report.to_dict())
    rejected.unlink(missing_ok=True)
    _remember(target, info, report)
    return ExportResult(target, report, accepted, plan.images.paths[0])


def _report(plan: _Plan, verdict: Verdict, path: Path, seconds: float) -> GateReport:
    state = plan.loaded.model.state_dict().values()
    return GateReport(
        passed=verdict.passed,
        reasons=verdict.reasons,
        weights=line(plan.weights, 300),
        detector=plan.info.detector,
        weights_sha256=plan.info.weights_sha256,
        runtime=plan.form.runtime,
        precision=plan.info.precision,
        data=plan.images.data,
        split=plan.images.split,
        images=verdict.images,
        calibration_images=len(plan.calibration),
        threshold=verdict.threshold,
        exact=verdict.exact,
        parity=verdict.parity,
        accuracy=verdict.accuracy,
        max_drop=plan.max_drop,
        blank_boxes=verdict.blank_boxes,
        ms_before=verdict.ms_before,
        ms_after=verdict.ms_after,
        bytes_before=sum(tensor.numel() * tensor.element_size() for tensor in state),
        bytes_after=size_bytes(path),
        threads=plan.threads,
        instruction_set=instruction_set(),
        machine=processor(),
        versions=installed_versions(_PACKAGES),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        seconds=round(seconds, 1),
    )


def _remember(path: Path, info: ExportInfo, report: GateReport) -> None:
    assert report.ms_after is not None
    change = next(iter(report.accuracy), None)
    remember(
        KnownExport.of(
            path,
            info,
            runtime=report.runtime,
            latency_ms=report.ms_after,
            ap_before=None if change is None else change.before,
            ap_after=None if change is None else change.after,
        )
    )
