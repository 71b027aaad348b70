"""Which checkpoint a run resumes from, and whether it belongs to the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from vovnet.data.dataset import DetectionDataset
from vovnet.engine.config import TrainConfig
from vovnet.engine.config_keys import explain
from vovnet.engine.training.checkpoint import check_checkpoint, damaged
from vovnet.engine.training.data import fingerprint
from vovnet.engine.training.schedule import learning_rate, total_steps
from vovnet.printing import line
from vovnet.weights.file import load_checkpoint

_MAY_DIFFER = {
    *("resume", "workers", "draw_images", "data.cache", "threads", "output", "device", "compile", "channels_last"),
    *("log_every", "checkpoint_every", "tensorboard", "early_stop"),
}


def find_checkpoint(config: TrainConfig, dataset: DetectionDataset) -> dict[str, Any] | None:
    """The checkpoint that the run resumes from, None for a new run.

    The schedule may differ from that of the checkpoint if the steps that are done had the same learning rates.

    Raises FileExistsError if a new run would overwrite the files of another one, and ValueError if the checkpoint is
    damaged or was trained with other settings, classes or images.
    """
    weights = [config.output / name for name in ("best.safetensors", "last.safetensors")]
    last = config.output / "last.pt"
    if config.resume and last.exists():
        checkpoint = load_checkpoint(last)
        check_checkpoint(checkpoint, last)
        try:
            saved = TrainConfig.model_validate(checkpoint["config"])  # adds the defaults of keys newer than the file
        except ValidationError as error:
            raise damaged(last, f"its config: {line(explain(TrainConfig, error), 200)}") from None
        if problems := [*_other_settings(saved, config), *_other_data(checkpoint, dataset, config)]:
            raise ValueError(
                f"{line(str(last))} belongs to a run with other settings ({line('; '.join(problems), 250)}); resume it "
                "with its own settings or choose another output=FOLDER"
            )
        _check_schedule(saved, config, checkpoint["step"], len(dataset))
        return checkpoint
    if last.exists() or any(path.exists() for path in weights):
        remedy = "resume it with resume=true or " if last.exists() else ""
        raise FileExistsError(f"{config.output} already holds a run; {remedy}choose another output=FOLDER")
    return None


def _other_settings(saved: TrainConfig, config: TrainConfig) -> Iterator[str]:
    """The keys outside the schedule that differ, each with its old and its new value."""
    before, now = dotted(saved.model_dump(mode="json")), dotted(config.model_dump(mode="json"))
    for key in sorted(before.keys() | now.keys(), key=[*before, *now].index):
        if _MAY_DIFFER & {key, key.split(".")[0]} or key.startswith("schedule.") or before.get(key) == now.get(key):
            continue
        yield f"{key} was {_show(before.get(key))}, is {_show(now.get(key))}"


def _other_data(checkpoint: Mapping[str, Any], dataset: DetectionDataset, config: TrainConfig) -> Iterator[str]:
    classes = checkpoint["info"]["class_names"]
    if tuple(classes) != tuple(dataset.class_names):
        were, are = (line(", ".join(names), 80) for names in (classes, dataset.class_names))
        yield f"the dataset's classes were {were}, are {are}"
    if checkpoint["images"] != fingerprint(dataset):
        yield f"the dataset's images: other names or another order in {config.data.root}, split {config.data.train}"


def _check_schedule(saved: TrainConfig, config: TrainConfig, step: int, num_images: int) -> None:
    """Raise ValueError unless the steps that are done had the learning rates of the new schedule, and are not more."""
    before, now = total_steps(saved, num_images), total_steps(config, num_images)
    keys = [
        f"schedule.{key} was {_show(old)}, is {_show(new)}"
        for key, old in saved.schedule.model_dump(mode="json").items()
        if old != (new := config.schedule.model_dump(mode="json")[key])
    ]
    if step > before:
        raise damaged(config.output / "last.pt", f"it is at step {step} of {before}")
    if not keys:
        return
    path, weights = config.output / "last.pt", config.output / "last.safetensors"
    minutes = (saved.schedule.minutes, config.schedule.minutes)
    if any(length is not None for length in minutes):
        raise ValueError(
            f"{path} belongs to a run whose length or rates would change ({'; '.join(keys)}), which a run of minutes "
            f"cannot; resume it with its own schedule, or start a new run from its weights: "
            f"weights={weights if weights.exists() else path} output=FOLDER"
        )
    if step > now:
        raise ValueError(
            f"{path} is at step {step}, and the run would now end at step {now} ({'; '.join(keys)}); make it at least "
            f"{step} steps long or choose another output=FOLDER"
        )
    no_backbone = " backbone_weights=null" if config.backbone_weights else ""
    base = config.optimizer.learning_rate
    for done in range(step):
        rates = [learning_rate(done, *run) for run in ((before, base, saved.schedule), (now, base, config.schedule))]
        if rates[0] != rates[1]:
            raise ValueError(
                f"{path} was trained with other learning rates ({'; '.join(keys)}): step {done} had {rates[0]:.3g} and "
                f"would have {rates[1]:.3g}{_why(saved, config)}; resume it with its own schedule, or start a new run "
                f"from its weights: weights={weights if weights.exists() else path}{no_backbone} output=FOLDER"
            )


def _why(saved: TrainConfig, config: TrainConfig) -> str:
    cosine = "cosine" in (saved.schedule.kind, config.schedule.kind)
    return ", because the rates of a cosine schedule depend on its length" if cosine else ""


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value, without sections; tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        plain = list(value) if isinstance(value, tuple) else value
        flat |= dotted(plain, f"{prefix}{key}.") if isinstance(plain, dict) else {prefix + key: plain}
    return flat


def _show(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else line(str(value), 60)
