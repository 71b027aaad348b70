"""What the pages say of runtimes and the runner, from docs/records; "not measured yet" before there are records."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vovnet.export.measuring.runtime_measurement import RuntimesMeasurement, read_runtimes
from vovnet.provenance import count_threads
from vovnet.report.document import parts_to_markdown
from vovnet.report.runtime_table import runtime_remarks, runtime_table

NOT_YET = "not measured yet"
RESULTS = {
    "auto_to_eager_ratio": "pixels → boxes, fastest runtime / eager PyTorch (time)",
    "pixels_to_boxes_to_network_ratio": "fastest runtime, pixels → boxes / network alone (time)",
    "ap_loss_val": "fastest runtime, loss of VOC07 mAP on val",
    "slowest_export_s": "slowest export with its test on 87 images (s)",
    "runner_installed_mb": "runner, installed with its dependencies (MB)",
    "runner_start_s": "runner, start of the process → first boxes (s)",
    "runner_peak_mib": "runner, peak of resident memory in 10,000 predictions (MiB)",
    "runner_growth_mib": "runner, growth of resident memory from prediction 1,000 to 10,000 (MiB)",
}


def fill(page: str, name: str, content: str) -> str:
    """The page with the content between its marks <!-- name --> and <!-- /name -->, which stay."""
    marks = re.escape(f"<!-- {name} -->"), re.escape(f"<!-- /{name} -->")
    filled, count = re.subn(f"({marks[0]}).*?({marks[1]})", lambda m: m[1] + content + m[2], page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected <!-- {name} --> once, found {count}")
    return filled


def runtimes_block(records: Path) -> str:
    """The table of runtimes of the bundled weights with all that it holds for."""
    measurement = _runtimes(records)
    if measurement is None:
        return f"\nThe runtimes are {NOT_YET}.\n"
    table = runtime_table(measurement)
    remarks = "\n".join(f"- {remark}" for remark in runtime_remarks(measurement))
    return f"\n{parts_to_markdown([table])}\n{remarks}\n"


def fastest_cell(records: Path) -> str:
    """The median of the fastest runtime, from pixels to boxes, in a cell of a table."""
    measurement = _runtimes(records)
    row = None if measurement is None else measurement.fastest
    if measurement is None or row is None or row.boxes is None:
        return NOT_YET
    conditions = measurement.conditions
    device = f"{conditions.device_name}, {count_threads(conditions.threads)}"
    return f"{row.boxes.median_ms:.1f} ms ({row.name}; {device})"


def deployment(records: Path) -> str:
    """The section of docs/results.md."""
    title = "## Other runtimes, and the runner without PyTorch"
    path = records / "deployment.json"
    if not path.exists():
        return f"{title}\n\nThey are {NOT_YET}: `make runtimes` measures them.\n"
    record = json.loads(path.read_text())
    machine = record["machine"]
    rows = [
        f"| {RESULTS[name]} | {value:.3f} | {record['claims'].get(name, '–')} |"
        for name, value in record["results"].items()
    ]
    lines = ["| result | measured | claim |", "| --- | --- | --- |", *rows]
    return f"""{title} (measured, {machine["cpu"]}, {machine["instructions"]}, {count_threads(machine["threads"])})

{chr(10).join(lines)}

One run of `{record["command"]}`. The fastest runtime was `{record["fastest"]}`; [Deploy](deploy.md) has the whole
table.
"""


def _runtimes(records: Path) -> RuntimesMeasurement | None:
    path = records / "runtimes.json"
    return read_runtimes(path) if path.exists() else None
