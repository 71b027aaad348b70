"""What somebody means by the first word after `vovnet train`: a config or a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vovnet.data.splits.split_file import is_split_file
from vovnet.engine.config_file import read_values
from vovnet.errors import UsageError, did_you_mean, nearest_beside
from vovnet.media.finding import VIDEO_SUFFIXES
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.names import published_configs
from vovnet.printing import line

_ROOT = "data.root="
_OF_DATASETS = {"names", "nc", "train", "val", "path"}  # keys of a YAML file that describes images
_OF_CONFIGS = {"model", "schedule", "optimizer", "batch_size"}


def find_dataset(source: str | None, settings: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """The dataset that is meant, and the settings without it; None if `source` is a config.

    source: a config, by its file or name, or a dataset: its folder, the YAML file that describes it, a split file. None
        takes the dataset of the setting data.root.

    FileNotFoundError if it is none of these. UsageError without any.
    """
    if source is not None and "=" in source and not _exists(source):
        settings, source = (source, *settings), None
    others = tuple(setting for setting in settings if not setting.startswith(_ROOT))
    if source is None:
        roots = [setting.removeprefix(_ROOT) for setting in settings if setting.startswith(_ROOT)]
        if not roots:
            raise UsageError("name a config or a folder of labelled images: vovnet train DIR")
        return _checked(roots[-1]), others
    if _is_config(source):
        return None, tuple(settings)
    if len(others) < len(settings):
        raise UsageError(f"{line(source)} and {_ROOT}… both name a dataset: give one of them")
    return _checked(source), others


def _is_config(source: str) -> bool:
    path, published = Path(source), published_configs()
    if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES and _exists(source) and path.is_file():
        raise UsageError(
            f"expected a folder of labelled images or a config, got the image or video {line(source, 300)}"
        )
    name = path.name.removesuffix(".yaml")
    if not _exists(source) or not path.is_file():
        named = name in published and path in (Path(name), Path(f"{name}.yaml"), Path("configs") / f"{name}.yaml")
        return named or path.suffix in (".yaml", ".yml")
    if path.suffix not in (".yaml", ".yml") or is_split_file(path):
        return path.suffix not in (".json", ".data", ".txt")
    with suppress(UsageError):  # whoever reads it as a config says what is wrong
        keys = read_values(path).keys()
        return not (keys & _OF_DATASETS) or bool(keys & _OF_CONFIGS)
    return True


def _checked(source: str) -> Path:
    if not source.strip():  # Path would take the current folder
        raise UsageError("the name of the config or folder is empty, as that of an unset variable: vovnet train DIR")
    if not _exists(source):
        hint = nearest_beside(Path(source)) or did_you_mean(source, published_configs())
        hint = hint or "; `vovnet list` names the published configs"
        raise FileNotFoundError(f"no config file {line(source)}, and no data folder of this name{hint}")
    return Path(source)


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # a name that is too long, or with NUL
        return False
