"""`vovnet measure WEIGHTS --runtimes …`: one detector in several runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from vovnet.cli.output import Output, make_folder, show_progress
from vovnet.errors import UsageError
from vovnet.folder_lock import folder_lock
from vovnet.printing import line

RUNTIMES_TAKE = (
    "--runtimes measures the weights of one detector on the CPU, an image at a time, and goes only with --data, "
    "--split, --images, --repetitions, --threads, --energy, --meter, --output and --json"
)


def measure_in_runtimes(
    weights: str, runtimes: Sequence[str], plan: Mapping[str, Any], output: Path | None, out: Output
) -> int:
    """Print the table, write the report; 1 if a runtime could not be measured. plan: see `Plan`, without None."""
    from vovnet.engine.model_names import is_trained
    from vovnet.export.measuring.measure_runtimes import Plan, measure_runtimes
    from vovnet.export.measuring.runtime_measurement import parse_names
    from vovnet.provenance import command_line, record_header
    from vovnet.report.runtime_table import runtime_remarks, runtime_table, write_runtimes

    names = parse_names(runtimes)
    if not is_trained(weights):
        raise UsageError(f"--runtimes measures trained weights, not {line(weights, 100)}: name a file, a run or bccd")
    if output is not None:
        make_folder(output)
    stated = {name: value for name, value in plan.items() if value is not None}
    exports = None if output is None else output / "exports"
    with nullcontext() if output is None else folder_lock(output), show_progress() as progress:
        task = progress.add_task("", total=None)
        measurement = measure_runtimes(
            weights,
            names,
            Plan(**stated, exports=exports),
            on_step=lambda what: progress.update(task, description=line(what)),
        )
        header = record_header(command_line())
        if output is not None:
            write_runtimes(measurement, header, output)
    table = runtime_table(measurement)
    out.say(table.title)
    out.table(list(table.header), [list(row) for row in table.rows])
    for remark in runtime_remarks(measurement):
        out.say(remark)
    if output is not None:
        out.say(f"report in {output}")
    out.json({**header, "runtimes": measurement.to_dict()})
    return 1 if any(row.reason for row in measurement.rows) else 0
