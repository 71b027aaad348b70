"""What the stages that train have in common: images of the reduced VOC2007 without val, and no files but the log."""

from __future__ import annotations

from typing import Any

from gpu_stages.stage import Stage

NEVER = 1_000_000  # steps


def training_settings(stage: Stage, root: Any, *, batch: int, steps: int, logged: int) -> dict[str, Any]:
    """Key of a config → value.

    batch: images of a step and of a pass.
    logged: steps between two lines of the log; 1 in a rehearsal.
    """
    return {
        "data.root": root,
        "data.train": "fit",
        "data.val": "null",  # the held-out images are tested once, when the weights have their final form
        "data.more_train": "[]",
        "batch_size": batch,
        "micro_batch_size": batch,
        "schedule.iterations": steps,
        "schedule.milestones": "[]",
        "evaluate_every": NEVER,
        "checkpoint_every": NEVER,
        "log_every": 1 if stage.rehearse else logged,
        "workers": 0 if stage.rehearse else "auto",
        "draw_images": "device",
        "precision": "fp32" if stage.rehearse else "bf16",
        "device": stage.device,
        "tensorboard": "false",
    }


def arguments(values: dict[str, Any]) -> list[str]:
    """The arguments of `load_config`."""
    return [f"{key}={value}" for key, value in values.items()]
