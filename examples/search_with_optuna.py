"""Search the learning rate and the augmentation of a run for two minutes with Optuna: short runs, each on its own.

    pip install optuna
    python examples/search_with_optuna.py CONFIG [key=value …]

CONFIG and key=value are those of `vovnet train`. Optuna only proposes values and is told what came out, so each run is
an ordinary one, in a folder of its own below `output`. The best setting is printed as arguments of `vovnet train`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.train import train
from vovnet.errors import counted


def propose(trial: Any) -> dict[str, Any]:
    """The keys that are searched, with the values that a trial gives them."""
    return {
        "optimizer.learning_rate": trial.suggest_float("optimizer.learning_rate", 3e-3, 0.1, log=True),
        "augment.expand": trial.suggest_float("augment.expand", 1.0, 4.0),
        "augment.crop_min_scale": trial.suggest_float("augment.crop_min_scale", 0.3, 1.0),
    }


def arguments(values: dict[str, Any]) -> list[str]:
    """The values as `vovnet train` takes them."""
    return [f"{key}={value:.4g}" for key, value in values.items()]


def search(
    study: Any, config: str, settings: Sequence[str] = (), *, minutes: float = 2.0, run_minutes: float = 0.4
) -> tuple[list[str], float] | None:
    """The best arguments and their metric on val, of short runs that end before `minutes` are over; None without any.

    study: of Optuna, or anything else with `ask` and `tell`, that maximises.
    run_minutes: length of a run. A cosine schedule, so that even a short run ends with a low rate.
    """
    began, number = time.monotonic(), 0
    best: tuple[list[str], float] | None = None
    while time.monotonic() - began + 60 * run_minutes <= 60 * minutes:
        trial = study.ask()
        chosen = arguments(propose(trial))
        result = train(short_run(config, [*settings, *chosen], run_minutes, number))
        if not result.finished:  # Ctrl-C
            break
        score = result.last or 0.0
        study.tell(trial, score)
        print(f"run {number}: {score:.4f} with {' '.join(chosen)}", flush=True)
        if best is None or score > best[1]:
            best = chosen, score
        number += 1
    return best


def short_run(config: str, settings: Sequence[str], minutes: float, number: int) -> TrainConfig:
    """The config of a run of the search."""
    output = load_config(config, settings).output / f"search-{number}"
    schedule = f"schedule={{kind: cosine, minutes: {minutes}, warmup_iterations: 5}}"
    return load_config(config, [*settings, schedule, "evaluate_every=1000000", f"output={output}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--minutes", type=float, default=2.0, help="of the whole search")
    parser.add_argument("--run-minutes", type=float, default=0.4, help="of each run")
    options = parser.parse_args()
    import optuna

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    best = search(study, options.config, options.settings, minutes=options.minutes, run_minutes=options.run_minutes)
    if best is None:
        raise SystemExit("no run ended: give more --minutes, or shorter runs with --run-minutes")
    print(f"best of {counted(len(study.trials), 'run')}: {best[1]:.4f} on val")
    print(f"vovnet train {Path(options.config)} {' '.join([*options.settings, *best[0]])}")


if __name__ == "__main__":
    main()
