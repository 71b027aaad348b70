"""Opens a dataset in whichever format its folder has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vovnet.data.dataset import DetectionDataset, Sample, raise_problem
from vovnet.data.image_files import is_image_name
from vovnet.data.made_dataset import to_dataset
from vovnet.data.readers import boxes_csv, coco, cvat_xml, label_studio, labelme, mask_png, via, voc, yolo
from vovnet.data.reading import names_of_splits, read_splits
from vovnet.data.splits.split_file import Selection, is_split_file, read_split_file
from vovnet.errors import UsageError, did_you_mean, listed, nearest_beside
from vovnet.media.pixels import image_header_size
from vovnet.printing import line, quoted

if TYPE_CHECKING:
    from torch import Tensor

_MAX_NEIGHBOURS = 50  # folders looked at for a hint
_MAX_FILES = 1000  # looked at for a hint
_MOST_NAMES = 10  # of splits that a message lists
_ELSEWHERE = ", which is not read: export the dataset as COCO or YOLO, from the tool that has it"
_UNREAD = {  # suffix → what a file is, and what to do
    **dict.fromkeys((".tfrecord", ".tfrecords", ".record"), f"a TFRecord file{_ELSEWHERE}"),
    **dict.fromkeys((".parquet", ".arrow"), f"a table of columns{_ELSEWHERE}"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "an archive: unpack it"),
}
_VALIDATION_NAMES = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Form:
    """One way in which a folder can be recognised as a dataset.

    format: the name of the format, as messages have it.
    module: reads it.
    recognises: gives the file or folder that shows it, as the start of a clause ("data.yaml has …"); "" if none does.
    looked_for: that file or folder, for the message about an unknown folder.
    is_certain: nothing else looks like it, so a folder beside the one that was given may be meant.
    """

    format: str
    module: ModuleType | Selection
    recognises: Callable[[Path], str]
    looked_for: str
    is_certain: bool = False


# The first one that recognises a folder says which module reads it.
_FORMS = (
    Form("VOC", voc, voc.recognises, "Annotations/*.xml", is_certain=True),
    Form("COCO", coco, coco.recognises, "annotations/*.json", is_certain=True),
    Form("YOLO", yolo, yolo.recognises, "data.yaml", is_certain=True),
    Form("mask PNGs", mask_png, mask_png.recognises, "masks/*.png", is_certain=True),
    Form("YOLO", yolo, yolo.recognises_yaml, "a YAML file like it"),
    Form("VOC", voc, voc.recognises_layout, "*.xml beside the images"),
    Form("CVAT XML", cvat_xml, cvat_xml.recognises, "annotations.xml", is_certain=True),
    Form("CVAT XML", cvat_xml, cvat_xml.recognises_tasks, "*/annotations.xml"),
    Form("CSV", boxes_csv, boxes_csv.recognises, "_annotations.csv"),
    Form("YOLO", yolo, yolo.recognises_settings, "classes.txt"),
    Form("labelme", labelme, labelme.recognises, "a JSON file per image"),
    Form("VIA", via, via.recognises, "its JSON or CSV"),
    Form("Label Studio", label_studio, label_studio.recognises, "its JSON"),
)
_WITH_MASKS = (coco, mask_png, labelme, via, label_studio)


@dataclass(frozen=True)
class Recognition:
    """Which format a folder has, and why.

    module: reads it, and has `splits`, `read` and `write`.
    format: its name: VOC, COCO, YOLO, mask PNGs, …
    reason: a clause that names the file or folder which decided it: "data.yaml has names and splits".
    others: formats of which files are there too, each as "NAME (reason)"; they are not read.
    """

    module: ModuleType | Selection
    format: str
    reason: str
    others: tuple[str, ...] = ()

    def sentence(self) -> str:
        """ "VOC, because …", with what else was there."""
        others = f"; not read: {', '.join(self.others)}" if self.others else ""
        return f"{self.format}, because {self.reason}{others}"


def recognise(root: str | Path) -> Recognition:
    """The format of a folder, or of the dataset that a YAML file describes. ValueError if none is recognised."""
    root = Path(root)
    form, reason = _find_form(root)
    others: dict[ModuleType | Selection, str] = {}
    for other in _FORMS if root.is_dir() else ():
        if other.module is not form.module and other.module not in others:
            with suppress(ValueError, OSError):  # it is not the one that is read
                if other_reason := other.recognises(root):
                    others[other.module] = f"{other.format} ({other_reason})"
    return Recognition(form.module, form.format, reason, tuple(others.values()))


def find_format(root: Path) -> ModuleType | Selection:
    """What reads the format of a folder, of the dataset that a YAML file describes, or of a split file."""
    return _find_form(root)[0].module


def own_format(format_module: ModuleType | Selection) -> ModuleType:
    """The module that reads the annotations: that of the dataset itself where a split file selects from it."""
    return format_module.module if isinstance(format_module, Selection) else format_module


def _find_form(root: Path) -> tuple[Form, str]:
    """The first form that recognises a folder, and why."""
    if is_split_file(root):
        file = read_split_file(root)
        try:
            form, reason = _find_form(file.root)
        except (ValueError, OSError) as error:
            raise ValueError(f"{root}: {error}") from error
        selection = Selection(file, own_format(form.module))
        return replace(form, module=selection), f"{line(root.name, 60)} selects images of a dataset in which {reason}"
    if root.is_file():
        if yolo.is_settings_file(root):
            form = next(form for form in _FORMS if form.module is yolo)
            return form, f"{line(root.name, 60)} describes such a dataset"
        raise ValueError(
            f"{root} is a file: give the folder of the dataset, the YAML file of a YOLO dataset, or a split file"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {root} does not exist{nearest_beside(root)}")
    for form in _FORMS:
        if reason := form.recognises(root):
            return form, reason
    why = "it is empty" if not any(root.iterdir()) else "none of these exists"
    raise ValueError(
        f"{root} is not a known dataset: looked for {_all_looked_for()}, but {why}"
        f"{_hint_at_neighbours(root) or _hint_at_content(root)}"
    )


def _all_looked_for() -> str:
    """What shows each format: "…, data.yaml or classes.txt (YOLO), …"."""
    by_format: dict[str, list[str]] = {}
    for form in _FORMS:
        by_format.setdefault(form.format, []).append(form.looked_for)
    return ", ".join(f"{' or '.join(shown)} ({name})" for name, shown in by_format.items())


def _hint_at_neighbours(root: Path) -> str:
    """The dataset above, or the datasets one or two folders below, of which one may be meant."""
    groups = ([root.resolve().parent], *(islice(root.glob(pattern), _MAX_NEIGHBOURS) for pattern in ("*", "*/*")))
    for group in groups:
        datasets = sorted(str(path) for path in group if _is_dataset(path))
        if datasets:
            is_or_are = "is a dataset" if len(datasets) == 1 else "are datasets"
            return f"; {', '.join(datasets[:5])} {is_or_are}: give that folder"
    return ""


def _hint_at_content(root: Path) -> str:
    """What to do with the files that are there instead."""
    for path in islice((path for pattern in ("*", "*/*") for path in root.glob(pattern)), _MAX_FILES):
        name = line(path.relative_to(root).as_posix(), 60)
        if kind := _UNREAD.get(path.suffix.lower()):
            return f"; {name} is {kind}"
        if is_image_name(path):
            return f"; there are images, such as {name}, but nothing says what they show"
    return ""


def _is_dataset(path: Path) -> bool:
    return path.is_dir() and any(form.recognises(path) for form in _FORMS if form.is_certain)


def open_dataset(
    root: str | Path, split: str | None = None, *, class_names: Sequence[str] | None = None, masks: bool = False
) -> DetectionDataset:
    """One split of a dataset in any format. No image is decoded.

    Boxes stay as annotated, not clipped to the image, but are turned upright with an image that EXIF turns, if they are
    those of the pixels as stored. Boxes without a finite, positive width and height are left out, and one warning
    counts them.

    root: the folder of the dataset, the YAML file that describes a YOLO dataset in its folder, or a split file.
    split: one of `splits(root)`, or "all" for every annotation file of VOC. None takes the only split there is. val,
    valid, validation and dev are names of the same split where a dataset has only one of them.
    class_names: number the classes in this order (that of a checkpoint) instead of the dataset's own; a class that is
    not among them is a ValueError.
    masks: read the masks of the objects too. It needs the extra "eval" and some seconds for 100,000 masks. A format
    without masks is a UsageError; an object without a mask, or with a damaged one, is a ValueError.
    """
    root = Path(root)
    form, _ = _find_form(root)
    if masks and own_format(form.module) not in _WITH_MASKS:
        raise UsageError(
            f"{root} is a dataset in {form.format} format, which has no masks: give one in COCO format "
            "(annotations/*.json) or with mask PNGs (images/ and masks/), or use a model without masks"
        )
    names = [_choose_split(root, form.module, split)]
    (annotations,) = read_splits(form.module, root, names, raise_problem, masks=masks)
    if not annotations.images:
        raise ValueError(f"{root}: the split {annotations.split} has no images")
    return to_dataset(annotations, class_names, masks)


def require_objects(dataset: DetectionDataset) -> None:
    """ValueError if no image has an object inside it: a detector would learn nothing, or be compared with nothing."""
    if any((~sample.target.crowd & are_inside(sample)).any() for sample in dataset):  # nothing is learnt from crowds
        return
    where = " inside it" if any((~sample.target.crowd).any() for sample in dataset) else ""
    raise ValueError(
        f"{dataset.root}: no image of the split {dataset.split} has an object{where}: correct "
        "the annotations (`vovnet data check` lists problems) or name another split"
    )


def are_inside(sample: Sample) -> Tensor:
    """Which objects of an image are inside it, at least in part, (M,). All of them if its size cannot be found."""
    boxes = sample.target.boxes

    def fit(size: tuple[int, int]) -> Tensor:
        return ((boxes[:, :2] < boxes.new_tensor(size[::-1])) & (boxes[:, 2:] > 0)).all(dim=1)

    inside = fit(sample.image_size) if sample.image_size else sample.target.crowd.new_ones(len(boxes))
    if sample.image_size and inside.all():
        return inside
    try:  # the size may not be stated, or wrong
        return fit(image_header_size(sample.image_path))
    except (ValueError, OSError):  # is said when the image is needed
        return inside


def splits(root: str | Path) -> tuple[str, ...]:
    """Names of the splits of the dataset in a folder."""
    root = Path(root)
    return names_of_splits(find_format(root), root)


def data_folder(root: Path) -> Path:
    """The folder of a dataset that is given by its folder, by the file that describes it or by a split file."""
    if is_split_file(root):
        return data_folder(read_split_file(root).root)
    return root.parent if root.is_file() else root


def _choose_split(root: Path, format_module: ModuleType | Selection, split: str | None) -> str:
    names = names_of_splits(format_module, root)
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise UsageError(f"{root} has the splits {listed(names, _MOST_NAMES)}: give one of them as split")
    if split in names or (format_module in (voc, yolo) and format_module.has_split(root, split)):
        return split
    same = [name for name in names if name in _VALIDATION_NAMES]
    if split in _VALIDATION_NAMES and len(same) == 1:
        return same[0]
    hint = did_you_mean(split, names)
    raise UsageError(f"{root} has no split {quoted(split)}{hint} (there are: {listed(names, _MOST_NAMES)})")
