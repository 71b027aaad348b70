"""`vovnet train`."""

from __future__ import annotations

from pathlib import Path

from vovnet.cli.app import app
from vovnet.cli.output import Json, Output, is_main


@app.command
def train(config: Path, *settings: str, json_file: Json = None) -> int:
    """Train a detector. Under `torchrun --nproc-per-node N -m vovnet train …` it uses N processes.

    Parameters
    ----------
    config:
        YAML file; the published ones are in configs/.
    settings:
        key=value for this run, with dots into sections: optimizer.learning_rate=1e-3, resume=true.
    json_file:
        Write a summary as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.engine.config import load_config
    from vovnet.engine.train import train as run

    result = run(load_config(config, settings))
    if is_main():
        best = "" if result.best is None else f", best on val {result.best:.4f}"
        if result.finished:
            out.say(f"finished after {result.steps} steps{best}; results in {result.output}")
        else:
            out.say(f"stopped after {result.steps} steps{best}; go on with resume=true; results in {result.output}")
        out.json(
            {"output": str(result.output), "steps": result.steps, "best": result.best, "finished": result.finished},
        )
    return 0 if result.finished else 130
