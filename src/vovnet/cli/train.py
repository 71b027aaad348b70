"""`vovnet train`."""

from __future__ import annotations

from vovnet.cli.app import app
from vovnet.cli.options import ConfigFile, Json
from vovnet.cli.output import Output, is_main


@app.command
def train(config: ConfigFile, *settings: str, json_file: Json = None) -> int:
    """Train a detector. For N processes: `torchrun --nproc-per-node N -m vovnet train …`.

    Parameters
    ----------
    settings:
        key=value changes a setting of this run, with dots for nested keys: optimizer.learning_rate=1e-3, resume=true.
    """
    out = Output(json_file)
    from vovnet.engine.config import load_config
    from vovnet.engine.train import train as run

    result = run(load_config(config, settings))
    if is_main():
        best = "" if result.best is None else f", best on val {result.best:.4f}"
        best += "" if result.last is None else f", last {result.last:.4f}"
        if result.finished:
            out.say(f"finished after {result.steps} steps{best}; results in {result.output}")
        else:
            out.say(f"stopped after {result.steps} steps{best}; resume with resume=true; results in {result.output}")
        out.json(
            {
                "output": str(result.output),
                "steps": result.steps,
                "best": result.best,
                "last": result.last,
                "finished": result.finished,
            },
        )
    return 0 if result.finished else 130
