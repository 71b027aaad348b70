"""Measure the bundled detector in all runtimes, and the runner without PyTorch: `make runtimes`, on an idle machine.

`make bench` does the same before its own measurements. Writes docs/records/runtimes.json and
docs/records/deployment.json. The exit status is 1 if a claim does not hold. pip fetches the runner's dependencies
into a virtual environment that is removed at the end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared import RECORDS, ROOT, Checked, finish

from vovnet.cli.output import Output
from vovnet.engine.predicting.runtimes import EXPORT_TO
from vovnet.export.measuring.measure_runtimes import Plan, measure_runtimes
from vovnet.export.measuring.runtime_measurement import TORCH, RuntimeName, RuntimesMeasurement, parse_names
from vovnet.files import write_json
from vovnet.provenance import record_header
from vovnet.report.runtime_table import runtime_remarks, runtime_table
from vovnet.runtime.cpu import has_int8_dot_product

NAMES = ("torch", "onnxruntime", "onnxruntime:int8", "openvino", "openvino:bf16", "openvino:int8", "mnn")
DATA = ROOT / "samples/bccd"
PREDICTIONS, SETTLED, STARTS = 10_000, 1_000, 5

# Prints a line after the first boxes, then what its memory was.
RUN = f"""
import json, sys
from vovnet.media.pixels import read_pixels
from vovnet.runtime import load
from pathlib import Path
detector = load(sys.argv[1])
found = detector.predict(sys.argv[2])
print(len(found.scores), flush=True)
if not sys.stdin.readline().strip():
    sys.exit()

def memory_mib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

pixels = read_pixels(Path(sys.argv[2]))
for number in range({PREDICTIONS}):
    detector.predict(pixels)
    if number == {SETTLED}:
        settled = memory_mib("VmRSS")
print(json.dumps({{"growth_mib": memory_mib("VmRSS") - settled, "peak_mib": memory_mib("VmHWM")}}))
"""


def claims() -> dict[str, tuple[str, float]]:
    """The bound of each result; that of the speed depends on what the CPU has for int8."""
    return {
        "auto_to_eager_ratio": ("≤", 0.20 if has_int8_dot_product() else 0.50),
        "pixels_to_boxes_to_network_ratio": ("≤", 1.25),
        "ap_loss_val": ("≤", 0.005),
        "slowest_export_s": ("≤", 90),
        "runner_installed_mb": ("≤", 180),
        "runner_start_s": ("≤", 0.5),
        "runner_peak_mib": ("≤", 150),
        "runner_growth_mib": ("≤", 2),
    }


def export_all(folder: Path) -> dict[str, float]:
    """Export for each row but PyTorch's, with the test on val, and remember it; the seconds of each that passed."""
    seconds = {}
    for name in parse_names(NAMES):
        if name.runtime == TORCH:
            continue
        command = [sys.executable, "-m", "vovnet", "export", "bccd", "--to", EXPORT_TO[name.runtime]]
        command += ["--precision", name.precision, "--data", str(DATA), "--output", str(folder)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            seconds[str(name)] = time.perf_counter() - started
        else:
            print(f"{name}: not exported: {done.stderr.strip()}", file=sys.stderr)
    return seconds


def runtime_results(measurement: RuntimesMeasurement) -> dict[str, float]:
    """The claims on the fastest runtime, of pairs of passes of one run. ValueError if too little was measured."""
    fastest, eager = measurement.fastest, measurement.row(TORCH)
    if fastest is None or eager is None or fastest.ratio is None or fastest.boxes is None or fastest.network is None:
        raise ValueError("PyTorch and another runtime must be measured")
    if measurement.timed[0] is not eager:
        raise ValueError("PyTorch must be the first row, with which the others are compared")
    if eager.map is None or fastest.map is None:
        raise ValueError("the accuracy must be measured")
    return {
        "auto_to_eager_ratio": fastest.ratio.median,
        "pixels_to_boxes_to_network_ratio": fastest.boxes.median_ms / fastest.network.median_ms,
        "ap_loss_val": eager.map - fastest.map,
    }


def make_runner(folder: Path) -> tuple[Path, float]:
    """The Python of a new virtual environment that holds the runner, and the megabytes that were added to it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    before = _megabytes(folder)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT / "runtime"]
    subprocess.run(command, check=True)
    return python, _megabytes(folder) - before


def _megabytes(folder: Path) -> float:
    """Without compiled modules, which Python writes as they are imported."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files) / 1e6


def measure_runner(python: Path, model: Path, image: Path, *, program: str = RUN) -> dict[str, float]:
    """Start-up and memory of the runner in this Python, with this exported file."""
    starts_s, memory = [], {}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for number in range(STARTS):
        started = time.perf_counter()
        with subprocess.Popen(
            [python, "-c", program, model, image],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            first = process.stdout.readline()
            starts_s.append(time.perf_counter() - started)
            if not first:
                raise RuntimeError(f"the runner ended with status {process.wait()}")
            process.stdin.write("go on\n" if number == STARTS - 1 else "\n")
            process.stdin.close()
            if number == STARTS - 1:
                memory = json.loads(process.stdout.readline())
    return {
        "runner_start_s": statistics.median(starts_s),
        "runner_peak_mib": memory["peak_mib"],
        "runner_growth_mib": memory["growth_mib"],
    }


def make_record(
    measurement: RuntimesMeasurement, results: Mapping[str, float], command: str = "make runtimes"
) -> dict[str, Any]:
    """In the form of bench.json."""
    conditions = measurement.conditions
    software = conditions.software
    machine = {
        "cpu": conditions.device_name,
        "instructions": measurement.instructions,
        "threads": conditions.threads,
        **{name: software[name] for name in ("torch", "onnxruntime", "openvino") if name in software},
    }
    fastest = measurement.fastest
    return {
        **record_header(command),
        "machine": machine,
        "fastest": fastest and fastest.name,
        "results": {name: round(value, 4) for name, value in results.items()},
        "claims": {name: f"{sign} {bound:g}" for name, (sign, bound) in claims().items()},
        "doubts": list(conditions.surroundings.doubts),
    }


def without_folders(measurement: RuntimesMeasurement) -> dict[str, Any]:
    """The measurement for the record: files by their names, since their folders are gone."""
    content = measurement.to_dict()
    for row in content["rows"]:
        row["file"] = row["file"] and Path(row["file"]).name
    return content


def broken_claims(results: Mapping[str, float]) -> list[str]:
    """Those that do not hold, or were not measured."""
    return [name for name, (_, bound) in claims().items() if results.get(name, float("inf")) > bound]


def measure(command: str, names: Sequence[str] = NAMES) -> Checked:
    """Measure everything, print the table of runtimes and write its record. `command` is for the records."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["VOVNET_CACHE"] = str(folder / "cache")  # what is remembered here is not the user's
        seconds = export_all(folder / "exports")
        plan = Plan(data=DATA, split="val", repetitions=200)
        measurement = measure_runtimes("bccd", parse_names(names), plan, on_step=print)
        runtimes = {**record_header(command), "runtimes": without_folders(measurement)}
        write_json(RECORDS / "runtimes.json", runtimes)
        out, table = Output(), runtime_table(measurement)
        out.table(list(table.header), [list(row) for row in table.rows])
        for remark in runtime_remarks(measurement):
            out.say(remark)
        results = runtime_results(measurement)
        if seconds:
            results["slowest_export_s"] = max(seconds.values())
        onnx = measurement.row(str(RuntimeName("onnxruntime")))
        if onnx is None or onnx.file is None:
            sys.exit("the runner needs the ONNX file, which was not exported")
        python, results["runner_installed_mb"] = make_runner(folder / "runner")
        image = next((DATA / "JPEGImages").glob("*.jpg"))
        results |= measure_runner(python, Path(onnx.file), image)
    return checked(make_record(measurement, results, command), results)


def checked(record: Mapping[str, Any], results: Mapping[str, float]) -> Checked:
    """The results beside their claims; the header names the instructions for which the claims hold."""
    machine = record["machine"]
    header = [f"{machine['cpu']}, {machine['instructions']}", "measured"]
    rows = [[name, f"{value:.3f}"] for name, value in results.items()]
    return Checked("deployment", record, header, rows, broken_claims(results))


if __name__ == "__main__":
    finish(measure("make runtimes"))
