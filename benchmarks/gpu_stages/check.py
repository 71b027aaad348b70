"""`pytest -m gpu`: whether everything is correct on this GPU. It comes first: what is wrong need not be measured."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
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


def settings(options: Options) -> dict[str, Any]:
    return {}


def is_done(record: StageRecord, key: str) -> bool:
    """Whether all tests passed with this code."""
    result = record.get(NAME, key)
    return result is not None and result["failed"] == 0


def run(stage: Stage) -> None:
    stage.record.content["results"].pop(NAME, None)  # it failed, or other code passed
    stage.measure(NAME, lambda: _pytest(stage), least_s=0 if stage.rehearse else LEAST_S)


def _pytest(stage: Stage) -> Mapping[str, Any]:
    report = stage.options.work / "pytest.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    chosen = [REHEARSED] if stage.rehearse else ["tests/gpu", "-m", "gpu"]
    command = [sys.executable, "-m", "pytest", *chosen, "-q", "--tb=short", "-p", "no:cacheprovider", "--durations=5"]
    try:
        done = subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, timeout=max(1.0, stage.left_s()))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the tests were not done after {SECONDS:.0f} s") from None
    if not report.exists():
        raise RuntimeError(f"pytest ended with status {done.returncode} and wrote no report")
    return summary(report.read_text())


def summary(junit: str) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and what the failed and skipped ones say. ValueError for none."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures, skips = {}, {}
    for case in ElementTree.fromstring(junit).iter("testcase"):
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
