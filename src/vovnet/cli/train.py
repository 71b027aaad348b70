"""`vovnet train`."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from vovnet.cli.app import app
from vovnet.cli.options import Json, Switch
from vovnet.cli.output import Output, is_main
from vovnet.errors import UsageError
from vovnet.printing import shell_word, shell_words

Amount = Annotated[float | None, Parameter(validator=Number(gt=0, lte=10**6))]


@app.command
def train(
    config: str | None = None,
    *settings: str,
    minutes: Amount = None,
    max_ms: Amount = None,
    from_weights: Annotated[str | None, Parameter(name="--from")] = None,
    resume: Switch = False,
    plan: Switch = False,
    json_file: Json = None,
) -> int:
    """Train a detector on a folder of labelled images, or as a config says.

    For a folder it checks the data, chooses what a config would state from the data and this machine, trains,
    evaluates, and names the next commands. For N processes: `torchrun --nproc-per-node N -m vovnet train CONFIG …`.

    Parameters
    ----------
    config:
        Folder of a dataset, the YAML file that describes one, or a split file; or a config: its YAML file, or the name
        of a published one, see `vovnet list`. Without it, data.root=DIR names the dataset.
    settings:
        key=value changes a setting of this run, with dots for nested keys: optimizer.learning_rate=1e-3, resume=true.
    minutes:
        Time for everything, from the check of the data to the report. For a config: its schedule.minutes.
    max_ms:
        Only detectors that take no more milliseconds for an image on this machine, as measured now.
    from_weights:
        Weights to start from, such as bccd: a name, a file, a run's folder, a URL or hf:OWNER/NAME. Classes may
        differ.
    resume:
        Go on with the run in the output folder.
    plan:
        Print what would be trained, and why, and stop.
    """
    out = Output(json_file)
    started = time.monotonic()
    from vovnet.planning.source import find_dataset

    root, settings = find_dataset(config, settings)
    if root is None:
        if plan or max_ms is not None:
            raise UsageError(f"--plan and --max-ms are for a folder of images, and {config} is a config")
        changes = [] if minutes is None else ["iterations=null", "epochs=null", f"minutes={minutes}"]
        more = [f"schedule.{change}" for change in changes]
        more += [f"weights={from_weights}"] if from_weights is not None else []
        return _train_config(str(config), [*settings, *more], out, resume=resume)
    if not is_main() or _processes() > 1:
        plan_it = f"vovnet train {shell_word(root)} --plan > my.yaml"
        raise UsageError(f"a plan is made by one process: `{plan_it}`, then torchrun with my.yaml")
    from vovnet.cli.train_dataset import output_of, train_dataset
    from vovnet.data.reading import read_once
    from vovnet.planning.plan import Request

    request = Request(root, output_of(root, settings), settings, minutes, max_ms, from_weights, started)
    resume = resume or "resume=true" in settings
    with read_once():  # for the check, the plan, the training and the evaluation
        return train_dataset(request, out, resume=resume, plan_only=plan)


def _processes() -> int:
    import os

    return int(os.environ.get("WORLD_SIZE", "1"))


def _train_config(config: str, settings: list[str], out: Output, *, resume: bool) -> int:
    from vovnet.engine.config import load_config
    from vovnet.engine.train import train as run

    result = run(load_config(config, [*settings, *(["resume=true"] if resume else [])]))
    if is_main():
        best = "" if result.best is None else f", best on val {result.best:.4f}"
        best += "" if result.last is None else f", last {result.last:.4f}"
        if result.finished:
            out.say(f"finished after {result.steps} steps{best}; results in {result.output}")
        else:
            out.say(f"stopped after {result.steps} steps{best}; results in {result.output}")
            words = ["vovnet", "train", config, *(word for word in settings if word != "resume=true"), "resume=true"]
            start = "the same command of torchrun, with resume=true" if _processes() > 1 else shell_words(words)
            out.say(f"to go on: {start}")
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
