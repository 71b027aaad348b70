"""Which pictures a comparison shows, and what its detectors and pictures are called there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.sources import expand_sources, is_video
from vovnet.download import download, is_url
from vovnet.errors import UsageError, did_you_mean
from vovnet.structures import Target
from vovnet.weights.shipped import find_weights

MOST = 50  # pictures of one figure: at this many it is some 35,000 pixels high
FIRST = 4  # so many of a data set where nobody says which


@dataclass(frozen=True)
class Shot:
    """A picture that is not read yet: a path or address, and its objects where they are known."""

    source: str
    target: Target | None = None

    def read(self) -> Tensor:
        """uint8 RGB (3, H, W). Raises ValueError or OSError with the source in its sentence."""
        if not is_url(self.source):
            return read_image(Path(self.source))
        try:
            return read_image(download(self.source))
        except ValueError as error:
            raise ValueError(f"{self.source} did not send an image that can be read ({error})") from None


def open_truth(root: Path, split: str | None, *, masks: bool) -> DetectionDataset:
    """One split of a data set, with `masks` also the masks where its format has any."""
    dataset = open_dataset(root, split)
    if masks:
        with suppress(UsageError):  # the split is there, so it is the format that has none
            dataset = open_dataset(root, split, masks=True)
    return dataset


def choose_shots(
    sources: Sequence[str], dataset: DetectionDataset | None = None, limit: int | None = None
) -> list[Shot]:
    """Images, folders, patterns and addresses; with a data set, stems, names or paths of its images, by default its
    first four.

    Raises UsageError for what is no image, or none of the data set's, and for more than fifty.
    """
    if dataset is None:
        if not sources:
            raise UsageError("say which pictures to compare on: --images SOURCE…, or --data DIR")
        shots = [Shot(source) for source in expand_sources(sources)]
        if videos := [shot.source for shot in shots if is_video(shot.source)]:
            raise UsageError(f"{videos[0]} is a video, but pictures are compared: name images")
    else:
        samples = _named(dataset, sources) if sources else islice(dataset, limit or FIRST)
        shots = [Shot(str(sample.image_path), sample.target) for sample in samples]
    shots = shots[:limit]
    if len(shots) > MOST:
        raise UsageError(f"one figure shows at most {MOST} pictures, got {len(shots)}: set --limit")
    return shots


def _named(dataset: DetectionDataset, names: Sequence[str]) -> list[Sample]:
    by_name: dict[str, list[Sample]] = {}
    for sample in dataset:
        path = sample.image_path
        for name in {path.stem, path.name, str(path.resolve())}:
            by_name.setdefault(name, []).append(sample)
    chosen = []
    for name in names:
        found = by_name.get(name) or by_name.get(str(Path(name).resolve()), [])
        if not found:
            hint = did_you_mean(name, by_name)
            raise UsageError(f"{name} is no image of {dataset.root}, split {dataset.split}{hint}")
        chosen += found
    return chosen


def picture_names(sources: Sequence[str]) -> list[str]:
    """The file's name, or all of the source where two would be called the same."""
    return _short(sources, lambda source: Path(urlsplit(source).path if is_url(source) else source).name)


def detector_names(weights: Sequence[str], names: Sequence[str] | None = None) -> list[str]:
    """The given names, else those of the files, or of the folder that holds best.safetensors.

    Raises UsageError for weights given twice, even by different ways to the same file, and for names that do not tell
    the detectors apart; FileNotFoundError for weights that are not there.
    """
    if not weights:
        raise UsageError("say which detectors to compare: shipped names, files, folders of runs or addresses")
    seen: dict[Path, str] = {}
    for one in weights:
        path = find_weights(one).resolve()
        if path in seen:
            same = "is given twice" if seen[path] == one else f"and {seen[path]} are the same weights"
            raise UsageError(f"{one} {same}: name each detector once")
        seen[path] = one
    if names is None:
        return _short(weights, _name_of_weights)
    if len(names) != len(weights):
        raise UsageError(f"--names must be one a detector, got {len(names)} names for {len(weights)} detectors")
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise UsageError(f"--names must differ, got {twice[0]!r} twice")
    return list(names)


def _name_of_weights(weights: str) -> str:
    path = Path(urlsplit(weights).path if is_url(weights) else weights)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        return path.name
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem


def _short(full: Sequence[str], shorten: Callable[[str], str]) -> list[str]:
    short = [shorten(one) for one in full]
    return [name if name and short.count(name) == 1 else one for name, one in zip(short, full, strict=True)]
