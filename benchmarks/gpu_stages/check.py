"""`pytest -m gpu`: whether everything is correct on this GPU. It comes first: a failure tells what not to trust."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from shared import ROOT

from gpu_stages.record import StageRecord
from gpu_stages.stage import Options, Stage

SECONDS, LEAST_S = 80.0, 30.0
BY_CARD = True
SOURCES = ("src/vovnet", "tests/gpu", "tests/other_device.py", "tests/small_training.py")
NAME = "pytest -m gpu"
REHEARSED = "tests/gpu/test_use.py"  # without a GPU most of these rehearse too
LAST_S = 8.0  # from Ctrl-C until pytest is killed
# A shell that runs a command in the background has it ignore Ctrl-C, and so does all that it starts.
_PYTEST = (
    "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main())"
)


def settings(options: Options) -> dict[str, Any]:
    return {}


def is_done(record: StageRecord, key: str) -> bool:
    """Whether all tests ran and passed with this code."""
    result = record.get(NAME, key)
    return result is not None and result["failed"] == 0 and "stopped" not in result


def run(stage: Stage) -> None:
    stage.record.content["results"].pop(NAME, None)  # it failed, or other code passed
    result = stage.measure(NAME, lambda: _pytest(stage), least_s=0 if stage.rehearse else LEAST_S)
    if result is not None and not is_done(stage.record, stage.key):
        stage.fail()


def _pytest(stage: Stage) -> Mapping[str, Any]:
    report = stage.options.work / "pytest.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    # pyproject.toml makes warnings errors; one that only CUDA gives is no failure.
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--durations=5", "-W", "default"]
    chosen = [REHEARSED] if stage.rehearse else ["tests/gpu", "-m", "gpu"]
    return run_pytest([*chosen, *options], report, limit_s=max(1.0, stage.left_s() - LAST_S))


def run_pytest(arguments: Sequence[str], report: Path, *, limit_s: float) -> dict[str, Any]:
    """The summary of the tests. "stopped" says so if time was over before the last one; those before it count."""
    report.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", _PYTEST, *arguments, f"--junitxml={report}"], cwd=ROOT)
    stopped = ""
    try:
        process.wait(None if math.isinf(limit_s) else limit_s)
    except subprocess.TimeoutExpired:
        stopped = f"the tests were not done after {limit_s:.0f} s"
        process.send_signal(signal.SIGINT)  # pytest then writes its report
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_S)
    finally:
        process.kill()
        process.wait()
    if not report.exists():
        raise RuntimeError(stopped or f"pytest ended with status {process.returncode} and wrote no report")
    return {**summary(report.read_text()), **({"stopped": stopped} if stopped else {})}


def summary(junit: str) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and what the failed and skipped ones say. ValueError for none."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures, skips = {}, {}
    for case in ElementTree.fromstring(junit).iter("testcase"):
        if case.get("name") is None:  # the one that ran when pytest was stopped
            continue
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = next((part for part in case if part.tag in ("failure", "error")), None)
        skip = case.find("skipped")
        if bad is not None:
            counts["failed"] += 1
            failures[name] = _first_lines(bad.get("message") or bad.text or "")
        elif skip is not None:
            counts["skipped"] += 1
            skips[name] = _first_lines(skip.get("message") or "")
        else:
            counts["passed"] += 1
    if not counts["passed"] + counts["failed"]:
        raise ValueError(f"no test ran ({counts['skipped']} were skipped)")
    return {**counts, "failures": failures, "skips": skips}


def _first_lines(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300]
