"""Measure what vovnet-runtime takes, beside PyTorch: `python benchmarks/runner.py MODEL.onnx IMAGE --python PYTHON`.

MODEL.onnx is the shipped detector, `vovnet export bccd --to onnx`. PYTHON is the interpreter of an environment that
holds vovnet-runtime and nothing else; PyTorch runs in this one. Prints a table and, with --json, writes a record. Linux
only: memory is read from /proc. The processes run in turn, so that both have the same machine; keep it otherwise idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vovnet.cli.output import Output
from vovnet.files import write_json
from vovnet.provenance import command_line, processor, record_header

MEMORY = """
import re, sys
def mib(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
"""
RUNNER = "from vovnet.runtime import load\n"
PYTORCH = "from vovnet import load\n"
FIRST = MEMORY + "load(sys.argv[1]).predict(sys.argv[2])\nprint(mib('VmHWM'))"
MANY = (
    MEMORY
    + """
detector, image, count = load(sys.argv[1]), open(sys.argv[2], "rb").read(), int(sys.argv[3])
for number in range(1, count + 1):
    detector.predict(image)
    if number == count // 10:
        before = mib("VmRSS")
print(mib("VmRSS") - before)
"""
)
INSTALLED = """
import site, os
from pathlib import Path
folder = Path(site.getsitepackages()[0])
tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
files = (path for path in folder.rglob("*") if not path.relative_to(folder).parts[0].startswith(tools))
print(sum(path.stat().st_size for path in files if path.is_file()) / 1e6)
"""


def run(python: str, code: str, *arguments: str) -> tuple[float, float]:
    """The seconds that the process took, and the number that it printed."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" or python == sys.executable
    }
    start = time.perf_counter()
    done = subprocess.run([python, "-c", code, *arguments], env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--python", required=True, help="interpreter of the environment with vovnet-runtime")
    parser.add_argument("--weights", default="bccd", help="from which MODEL was exported (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--predictions", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    image = str(options.image)
    ways = {
        "runner": (options.python, RUNNER, str(options.model)),
        "pytorch": (sys.executable, PYTORCH, options.weights),
    }
    starts: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.starts + 1):
        for name, (python, load, model) in ways.items():
            starts[name].append(run(python, load + FIRST, model, image))
    results: dict[str, Any] = {}
    for name, (python, _, _) in ways.items():
        taken = starts[name][1:]  # the first one fills the disk's cache
        results[name] = {
            "installed_mb": run(python, INSTALLED)[1],
            "first_boxes_s": statistics.median(seconds for seconds, _ in taken),
            "peak_mib": statistics.median(peak for _, peak in taken),
        }
    growth = run(options.python, RUNNER + MANY, str(options.model), image, str(options.predictions))[1]
    results["runner"]["growth_mib"] = growth
    rows = [
        ["installed packages, MB", *(f"{results[name]['installed_mb']:.0f}" for name in ways)],
        ["process start to first boxes, s", *(f"{results[name]['first_boxes_s']:.2f}" for name in ways)],
        ["peak memory, MiB", *(f"{results[name]['peak_mib']:.0f}" for name in ways)],
        [f"growth in the last 9/10 of {options.predictions:,} predictions, MiB", f"{growth:.1f}", ""],
    ]
    Output().table(["", *ways], rows)
    if options.json is not None:
        conditions = {"device": processor(), "starts": options.starts, "predictions": options.predictions}
        write_json(options.json, {**record_header(command_line()), **conditions, "results": results})


if __name__ == "__main__":
    main()
