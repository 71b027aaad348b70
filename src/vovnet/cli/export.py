"""`vovnet export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vovnet.cli.app import app
from vovnet.cli.options import Fraction, Json, Positive, Split, Threads, Weights
from vovnet.cli.output import Output, set_threads, show_progress
from vovnet.errors import counted
from vovnet.printing import shell_word

if TYPE_CHECKING:
    from vovnet.export.exporting import ExportResult
    from vovnet.export.gate_report import GateReport


@app.command
def export(
    weights: Weights,
    *,
    to: Annotated[Literal["onnx", "openvino", "mnn"], Parameter(help="What is to run it.")],
    precision: Literal["float32", "bf16", "int8"] = "float32",
    data: Path | None = None,
    split: Split = None,
    max_drop: Fraction = 0.005,
    calibration_images: Positive = 100,
    output: Path = Path("exported"),
    threads: Threads = None,
    json_file: Json = None,
) -> int:
    """Export a detector for ONNX Runtime, OpenVINO or MNN, once the file has proved to find what the weights find.

    Parameters
    ----------
    precision:
        Number format of the network; bf16 and int8 need a labelled dataset as --data.
    data:
        Folder of a dataset, whose split val judges the file; for float32 also a folder of images. By default eight
        images that ship with vovnet.
    max_drop:
        Largest drop of average precision that passes, as a fraction.
    calibration_images:
        Images of the training split from which int8 gets its ranges; none of them judges.
    output:
        Folder for the exported file and its report.
    """
    out = Output(json_file)
    from vovnet.export.exporting import export_detector

    set_threads(threads)
    with show_progress() as progress:
        task = progress.add_task("", total=None)
        result = export_detector(
            weights,
            to=to,
            precision=precision,
            data=data,
            split=split,
            max_drop=max_drop,
            calibration_images=calibration_images,
            output=output,
            threads=threads,
            on_step=lambda what: progress.update(task, description=what),
            on_image=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print(result, out)
    out.json(result.report.to_dict())
    return 0 if result.path is not None else 1


def _print(result: ExportResult, out: Output) -> None:
    from vovnet.engine.predicting.predictor import TITLES

    report = result.report
    out.table(["", "PyTorch", f"{TITLES[report.runtime]}, {report.precision}"], _rows(report))
    out.say(_comparison(report))
    judged = f"{report.instruction_set}, {report.seconds:.0f} s"
    if result.path is None:
        out.say(f"not exported ({judged}); report in {result.report_path}")
        for reason in report.reasons:
            out.say(f"- {reason}")
        out.say(_remedy(report))
        return
    out.say(f"passed ({judged}): {result.path}, report in {result.report_path}")
    out.say(f"next: vovnet predict {shell_word(result.image)} --weights {shell_word(result.path)}")


def _rows(report: GateReport) -> list[list[str]]:
    rows = [[change.metric, f"{change.before:.4f}", f"{change.after:.4f}"] for change in report.accuracy]
    if report.ms_before is not None and report.ms_after is not None:
        rows.append(["ms per image, rough", f"{report.ms_before:.1f}", f"{report.ms_after:.1f}"])
    return [*rows, ["MB", f"{report.bytes_before / 1e6:.1f}", f"{report.bytes_after / 1e6:.1f}"]]


def _comparison(report: GateReport) -> str:
    """What was compared, in one sentence."""
    parity = report.parity
    split = "" if report.split is None else f", split {report.split}"
    where = "that ship with vovnet" if report.data is None else f"of {report.data}{split}"
    text = f"{counted(parity.compared, 'box', 'boxes')} compared in {counted(report.images, 'image')} {where}"
    if parity.worst_score is not None and parity.worst_iou is not None:
        text += f": scores differ by up to {parity.worst_score:.2g}, the lowest IoU is {parity.worst_iou:.4f}"
    others = [
        f"{count} {what}"
        for count, what in ((parity.missing, "missing"), (parity.extra, "extra"), (parity.tied, "tied"))
        if count
    ]
    return text + (f", {', '.join(others)}" if others else "")


def _remedy(report: GateReport) -> str:
    if report.exact:
        return "the file is not what the model is: try another --to, and report this with the report's JSON"
    return "try --precision float32, another --to, more --calibration-images, or allow a larger drop with --max-drop"
