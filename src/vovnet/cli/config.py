"""`vovnet init` and `vovnet config show`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vovnet.cli.app import app, config_app
from vovnet.cli.output import Output
from vovnet.errors import UsageError

if TYPE_CHECKING:
    from vovnet.engine.config import TrainConfig

# What a config must state, until somebody changes it.
_START: dict[str, Any] = {
    "model": "dsod300_vovnet27_slim",
    "data": {"root": "path/to/data"},
    "schedule": {"epochs": 60},
    "batch_size": 8,
    "micro_batch_size": 8,
    "output": "runs/mine",
}


@app.command
def init(root: str | None = None, *settings: str) -> None:
    """Print a config with all keys, their values and meanings, to change and to train with.

    Parameters
    ----------
    root:
        Dataset that the config is planned for, as by `vovnet train`. Without it, the config holds the defaults.
    settings:
        key=value states a setting, with dots for nested keys: optimizer.learning_rate=1e-3.
    """
    from vovnet.engine.config_text import commented_yaml

    started = time.monotonic()
    root, settings = _without_setting(root, settings)
    if root is not None or any(setting.startswith("data.root=") for setting in settings):
        from vovnet.cli.train_dataset import make_plan, output_of, reasons_as_comments
        from vovnet.planning.plan import Request
        from vovnet.planning.source import find_dataset

        dataset, settings = find_dataset(root, settings)
        if dataset is None:
            raise UsageError(f"{root} is a config: `vovnet config show {root}` prints it with all its keys")
        request = Request(dataset, output_of(dataset, settings), settings, started=started)
        plan = make_plan(request, Output("-"))
        config = plan.config
        sys.stdout.write(reasons_as_comments(plan))
    else:
        config = _default_config(settings)
    sys.stdout.write(commented_yaml(config.model_dump()))


@config_app.command
def show(config: str | None = None, *settings: str) -> None:
    """Print a config with all its keys, the defaults too, as YAML that is the same config.

    Parameters
    ----------
    config:
        YAML file of a run, or the name of a published config; without it, the defaults.
    settings:
        key=value changes a setting, with dots for nested keys: optimizer.learning_rate=1e-3.
    """
    from vovnet.engine.config import load_config
    from vovnet.engine.config_text import config_yaml

    config, settings = _without_setting(config, settings)
    if config is not None:
        sys.stdout.write(config_yaml(load_config(config, settings)))
        return
    sys.stdout.write(config_yaml(_default_config(settings)))


def _default_config(settings: Sequence[str]) -> TrainConfig:
    from vovnet.engine.config import TrainConfig
    from vovnet.engine.config_file import override, validated

    values = {key: dict(value) if isinstance(value, dict) else value for key, value in _START.items()}
    override(values, settings)
    return validated(TrainConfig, values, "the defaults")


def _without_setting(first: str | None, settings: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The first word, unless it is a setting: then it is one of them."""
    if first is not None and "=" in first and not Path(first).exists():
        return None, (first, *settings)
    return first, settings
