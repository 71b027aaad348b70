"""Which runtime runs a detector: that of an exported file, or for weights their export that was tested here."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vovnet.engine.distributed import choose_device
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.engine.predicting.known_exports import KnownExport, any_known, known
from vovnet.engine.predicting.predictor import TITLES, Predictor
from vovnet.errors import UsageError, describe, unknown_name
from vovnet.names import shipped_weights
from vovnet.printing import line, quoted, shell_word
from vovnet.runtime.opening import open_session, runtimes_of
from vovnet.weights.detector import digest_of_weights, record_of_weights, score_thresholds_of_weights
from vovnet.weights.find import find_exported

EXPORT_TO = {"onnxruntime": "onnx", "openvino": "openvino", "mnn": "mnn"}  # what `vovnet export --to` calls them
_LOG = logging.getLogger("vovnet")


def open_export(
    source: str | Path, device: str = "auto", *, runtime: str | None = None, threads: int | None = None
) -> ExportedDetector | None:
    """The detector in an exported file, or the export of weights that `runtime` asks for; None if PyTorch is to run.

    The arguments and errors are those of `vovnet.load`.
    """
    if runtime not in (None, "auto", *TITLES):
        raise unknown_name("runtime", runtime, ("auto", *TITLES))
    path = find_exported(source)
    if path is not None:
        _check_device(device, f"{source} is exported and")
        return ExportedDetector(open_session(path, runtime=_runtime_of(path, runtime), threads=threads), path)
    if runtime is None or runtime == "torch":
        return None
    if runtime == "auto":
        return _fastest(source, threads) if choose_device(device).type == "cpu" and any_known() else None
    _check_device(device, TITLES[runtime])
    found = known(digest_of_weights(source), runtime)
    if not found:
        raise UsageError(
            f"no export of {line(str(source), 200)} for {TITLES[runtime]} has passed its test on this machine: make "
            f"one with {_export_command(source, runtime)}"
        )
    detector, refusals = _first_that_opens(found, source, threads)
    if detector is None:
        raise refusals[0]
    return detector


def describe_running(detector: Predictor, weights: str | Path) -> str | None:
    """One sentence on what runs in place of PyTorch, and for an export of weights how to run these themselves."""
    if detector.running.file is None:
        return None
    if detector.exported_on is None:
        return f"{weights} runs as {detector.running}"
    return (
        f"{weights} runs as {detector.running}, exported on {detector.exported_on} as {detector.running.file}; "
        "--runtime torch runs the weights themselves"
    )


def _export_command(source: str | Path, runtime: str) -> str:
    """Which makes one that is judged on the images that chose the weights, if they are here, else on shipped ones."""
    command = f"vovnet export {shell_word(source)} --to {EXPORT_TO[runtime]}"
    config = record_of_weights(source).get("config")
    data = config.get("data") if isinstance(config, dict) else None
    root, split = (data.get("root"), data.get("val")) if isinstance(data, dict) else (None, None)
    if isinstance(root, str) and isinstance(split, str) and os.path.exists(root):
        return f"{command} --data {shell_word(root)} --split {shell_word(split)}"
    own = "" if str(source) in shipped_weights() else " (and --data with images of what it detects)"
    return f"{command}{own}"


def _runtime_of(path: Path, runtime: str | None) -> str:
    """The runtime that is to run an exported file. UsageError if that cannot."""
    able = runtimes_of(path)
    if runtime in (None, "auto"):
        return able[0]
    if runtime not in able:
        names = " or ".join(TITLES[name] for name in able)
        raise UsageError(
            f"{path} is exported for {names}, which {TITLES[str(runtime)]} does not run: leave out the runtime, "
            "or name the weights"
        )
    return str(runtime)


def _check_device(device: str, what: str) -> None:
    if device not in ("auto", "cpu"):
        raise UsageError(f"{what} runs on the CPU, got device {quoted(device)}: leave out the device, or run PyTorch")


def _fastest(source: str | Path, threads: int | None) -> ExportedDetector | None:
    """The fastest known export that opens. If none does, one line says why, unless only its runtime is not installed.

    Nobody named an export, so what does not open says nothing while another one runs.
    """
    detector, refusals = _first_that_opens(known(digest_of_weights(source)), source, threads)
    damage = [error for error in refusals if not isinstance(error, ModuleNotFoundError)]
    if detector is None and damage:
        others = f", and {len(damage) - 1} more do not open" if len(damage) > 1 else ""
        _LOG.warning(
            "%s runs in PyTorch, because its export does not open (%s%s)",
            line(str(source), 200), line(describe(damage[0]), 300), others,
        )  # fmt: skip
    return detector


def _first_that_opens(
    exports: Sequence[KnownExport], source: str | Path, threads: int | None
) -> tuple[ExportedDetector | None, list[Exception]]:
    """The detector, and why those before it do not open."""
    refusals: list[Exception] = []
    for export in exports:
        try:
            return _open_known(export, source, threads), refusals
        except (ImportError, OSError, ValueError) as error:
            refusals.append(error)
    return None, refusals


def _open_known(export: KnownExport, source: str | Path, threads: int | None) -> ExportedDetector:
    """The remembered export of `source`, which must say itself that it comes from these weights.

    Its score thresholds are those that the weights have now, which may be newer.
    """
    path = Path(export.path)
    session = open_session(path, runtime=export.runtime, threads=threads)
    if session.info.weights_sha256 != export.weights_sha256:
        raise ValueError(f"{path} was exported from other weights than remembered: export it again")
    detector = ExportedDetector(session, path, exported_on=export.date)
    detector.score_thresholds = score_thresholds_of_weights(source)
    return detector
