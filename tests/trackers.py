"""Stand-ins for W&B and MLflow: the functions that the documents call, with the signatures of wandb 0.31.0 and mlflow
3.17.2, as `inspect.signature` gave them. A test compares them with the real ones where these are installed."""

from __future__ import annotations

from types import ModuleType
from typing import Any


class Run:
    """A run of W&B that keeps what it is given."""

    def __init__(self, config: dict[str, Any] | None) -> None:
        self.config, self.summary = config, {}
        self.logged: list[tuple[dict[str, Any], int | None]] = []
        self.artifacts: list[tuple[str, str | None]] = []
        self.error: object = "open"

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.error = exc_val

    def log(self, data, step=None, commit=None):
        assert type(data) is dict, "wandb takes a dict"
        self.logged.append((data, step))

    def log_artifact(self, artifact_or_path, name=None, type=None, aliases=None, tags=None):
        self.artifacts.append((artifact_or_path, type))


def make_wandb() -> ModuleType:
    """A module with `init`; the last run is its `run`."""
    module: Any = ModuleType("wandb")

    def init(
        entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None,
        config_exclude_keys=None, config_include_keys=None, allow_val_change=None, group=None, job_type=None, mode=None,
        force=None, reinit=None, resume=None, resume_from=None, fork_from=None, save_code=None, tensorboard=None,
        sync_tensorboard=None, monitor_gym=None, settings=None,
    ):  # fmt: skip
        module.run = Run(config)
        return module.run

    module.init = init
    return module


class ActiveRun:
    """What MLflow's `start_run` returns."""

    def __init__(self) -> None:
        self.error: object = "open"

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.error = exc_val


def make_mlflow() -> ModuleType:
    """A module that keeps `params`, `metrics` and `artifacts` of its last run."""
    module: Any = ModuleType("mlflow")

    def start_run(
        run_id=None, experiment_id=None, run_name=None, nested=False, parent_run_id=None, tags=None, description=None,
        log_system_metrics=None,
    ):  # fmt: skip
        module.run, module.params, module.metrics, module.artifacts = ActiveRun(), {}, [], []
        return module.run

    def log_params(params, synchronous=None, run_id=None):
        module.params.update(params)

    def log_metrics(metrics, step=None, synchronous=None, run_id=None, timestamp=None, model_id=None, dataset=None):
        assert all(isinstance(value, int | float) for value in metrics.values()), metrics
        module.metrics.append((metrics, step))

    def log_artifact(local_path, artifact_path=None, run_id=None):
        module.artifacts.append(local_path)

    for function in (start_run, log_params, log_metrics, log_artifact):
        setattr(module, function.__name__, function)
    return module
