"""`vovnet study`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from vovnet.cli.app import study_app
from vovnet.cli.options import ConfigFile, Json
from vovnet.cli.output import Output, need
from vovnet.printing import line


@study_app.command
def aggregation(config: ConfigFile, *settings: str, json_file: Json = None) -> int:
    """Train DenseNet-40, its OSA variants and ResNet-56 on CIFAR-10, and draw Figure 2: connection strengths.

    The same command resumes an interrupted study; finished runs are kept.

    Parameters
    ----------
    settings:
        key=value changes a setting of this run: data=DIR, download=true, networks=[densenet40], seeds=[0].
    """
    out = Output(json_file)
    need("matplotlib")

    from vovnet.engine.config import read_config
    from vovnet.paper.aggregation.config import AggregationConfig
    from vovnet.paper.aggregation.connections import hypothesis_rows
    from vovnet.paper.aggregation.figure2 import accuracy_rows, write_figure2
    from vovnet.paper.aggregation.study import run_study

    def show(record: Mapping[str, Any]) -> None:
        text = "  ".join(f"{line(key)} {line(str(value))}" for key, value in record.items())
        print(text, file=sys.stderr, flush=True)

    study = read_config(AggregationConfig, config, settings)
    records, finished = run_study(study, show)
    out.table(*accuracy_rows(records))
    out.table(*hypothesis_rows(records))
    figures = write_figure2(records, study.output)
    out.say(f"records and {', '.join(path.name for path in figures) or 'no figure yet'} in {study.output}")
    if not finished:
        out.say("stopped; run the same command to resume")
    out.json({"runs": records, "finished": finished})
    return 0 if finished else 130
