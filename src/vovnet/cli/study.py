"""`vovnet study`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vovnet.cli.app import study_app
from vovnet.cli.output import Json, Output


@study_app.command
def aggregation(config: Path, *settings: str, json_file: Json = None) -> int:
    """How strongly layers use earlier ones: train DenseNet-40 and one-shot aggregation on CIFAR-10, draw Figure 2.

    Started again it goes on; finished runs are not run again.

    Parameters
    ----------
    config:
        YAML file: configs/cifar10_aggregation.yaml is the published protocol.
    settings:
        key=value for this run: data=DIR, download=true, networks=[densenet40], seeds=[0].
    json_file:
        Write all records as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    import sys

    import matplotlib  # noqa: F401  (what would be missing at the end is missed now)

    from vovnet.engine.config import read_config
    from vovnet.paper.aggregation.config import AggregationConfig
    from vovnet.paper.aggregation.figure2 import accuracy_rows, write_figure2
    from vovnet.paper.aggregation.hypotheses import hypothesis_rows
    from vovnet.paper.aggregation.study import run_study

    def show(line: Mapping[str, Any]) -> None:
        print("  ".join(f"{key} {value}" for key, value in line.items()), file=sys.stderr, flush=True)

    chosen = read_config(AggregationConfig, config, settings)
    records, done = run_study(chosen, show)
    out.table(*accuracy_rows(records))
    out.table(*hypothesis_rows(records))
    pictures = write_figure2(records, chosen.output)
    out.say(f"records and {', '.join(path.name for path in pictures) or 'no figure yet'} in {chosen.output}")
    if not done:
        out.say("stopped; the same command goes on")
    out.json({"runs": records, "finished": done})
    return 0 if done else 130
