"""How each kind of file is read: by the public functions that the commands call, with what they return thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from . import mutators, seeds, seeds_of_tools, structured
from .seeds import Seed

Calls = Sequence[Callable[[], Any]]
Change = Callable[..., bytes]
_MAX_FRAMES = 30


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    weight: its share of all changed files.
    seeds: makes its whole files, once.
    change: makes a changed file of a whole one.
    calls: path of the changed file, folder of all files → the functions that read it. Each is called, whatever became
        of the one before.
    also: what may be raised beside ValueError and OSError.
    """

    weight: int
    seeds: Callable[[], Sequence[Seed]]
    change: Change
    calls: Callable[[Path, Path], Calls]
    also: tuple[type[Exception], ...] = ()
    named: bool = True  # whether a message must name the file

    @property
    def expected(self) -> tuple[type[Exception], ...]:
        return (ValueError, OSError, *self.also)


def _image(path: Path, folder: Path) -> Calls:
    from vovnet.data.images import read_image
    from vovnet.media.pixels import read_header, read_pixels

    return [lambda: read_header(path), lambda: read_image(path), lambda: read_pixels(path)]


def _video(path: Path, folder: Path) -> Calls:
    from vovnet.data.video import read_shown_frames
    from vovnet.media.video import video_info

    return [lambda: video_info(path), lambda: list(islice(read_shown_frames(path), _MAX_FRAMES))]


def dataset(folder: Path, *, copy: bool, masks: bool = False) -> Calls:
    """Opens every split, checks all, and writes a cleaned copy."""
    from vovnet.data.check import check_dataset, write_cleaned_copy
    from vovnet.data.formats import open_dataset, splits

    def opened(name: str, with_masks: bool) -> Callable[[], object]:
        return lambda: open_dataset(folder, name, masks=with_masks)

    def every_split() -> Iterator[Callable[[], object]]:
        yield lambda: splits(folder)
        try:
            names = splits(folder)
        except Exception:  # it is judged above
            return
        yield from (opened(name, with_masks) for name in names for with_masks in {False, masks})

    def check() -> object:
        report = check_dataset(folder, workers=1)
        if copy:
            write_cleaned_copy(report, folder.parent / "copy")
        return report.to_dict()

    return [*every_split(), check]


def _yolo(path: Path, folder: Path) -> Calls:
    from vovnet.data.formats import open_dataset, splits

    by_file: Calls = []
    if path.suffix in (".yaml", ".data"):
        by_file = [lambda: [open_dataset(path, name) for name in splits(path)]]
    return [*dataset(folder, copy=path.stat().st_size % 3 == 0), *by_file]


def _masked(path: Path, folder: Path) -> Calls:
    return dataset(folder, copy=path.stat().st_size % 3 == 0, masks=True)


def _voc(path: Path, folder: Path) -> Calls:
    return dataset(folder, copy=path.stat().st_size % 3 == 0)


def _split_file(path: Path, folder: Path) -> Calls:
    """As `dataset` of the file itself, of which no copy is written."""
    return dataset(path, copy=False)


def _config(path: Path, folder: Path) -> Calls:
    from vovnet.engine.config import load_config, read_config
    from vovnet.paper.aggregation.config import AggregationConfig

    return [lambda: read_config(AggregationConfig, path) if path.stem == "study" else load_config(path)]


def _overrides(path: Path, folder: Path) -> Calls:
    from vovnet.engine.config import load_config

    settings = path.read_bytes().decode("utf-8", errors="surrogateescape").split("\n")
    return [lambda: load_config(folder / "a.yaml", settings)]


def _weights(path: Path, folder: Path) -> Calls:
    from vovnet.weights.backbone import read_weights
    from vovnet.weights.detector import load_weights
    from vovnet.weights.importing import import_weights

    calls: list[Callable[[], Any]] = [lambda: load_weights(path), lambda: read_weights(path)]
    return [*calls, lambda: import_weights(path, folder / "out.safetensors")]


def _resume(path: Path, folder: Path) -> Calls:
    from vovnet.engine.config import load_config
    from vovnet.engine.train import train
    from vovnet.weights.detector import load_model

    return [lambda: load_model(path), lambda: train(load_config(folder / "config.yaml"))]


def _log(path: Path, folder: Path) -> Calls:
    from vovnet.engine.training.log import json_lines

    return [lambda: json_lines(path, last_step=1)]


def _onnx(path: Path, folder: Path) -> Calls:
    from vovnet.profiling.onnx.cost import count_onnx_cost

    return [lambda: count_onnx_cost(path), lambda: count_onnx_cost(path, (1, 3, 8, 8))]


def _measurements(path: Path, folder: Path) -> Calls:
    from vovnet.profiling.measurement import read_measurements
    from vovnet.report.measurement_report import write_measurement_report

    def report() -> None:
        measurements = read_measurements(path)
        if path.stat().st_size % 20 == 0:  # plots take seconds
            write_measurement_report(measurements, folder.parent / "report")

    return [lambda: read_measurements(path), report]


def _reproduction(path: Path, folder: Path) -> Calls:
    from vovnet.paper.sources import Sources
    from vovnet.paper.subjects import section_of

    sources = Sources(records=folder / "records")
    if path.parent.name == "evaluations":
        return [lambda: section_of("table2", sources)]
    if path.name.startswith("cifar10"):
        return [lambda: section_of("figure2", sources)]
    subject = "table2" if path.name == "table2.json" else "table3"
    return [lambda: section_of(subject, sources), lambda: sources.studies]


def _meter(path: Path, folder: Path) -> Calls:
    from vovnet.profiling.energy.meter import Meter

    return [lambda: Meter(path).samples()]


def _models(name: str) -> Callable[[], Sequence[Seed]]:
    def make() -> Sequence[Seed]:
        from . import seeds_of_models

        return getattr(seeds_of_models, name)()

    return make


def _onnx_change(data: bytes, chance: Any, others: Sequence[bytes] = ()) -> bytes:
    from .onnx_changes import any_onnx

    return any_onnx(data, chance, others)


def _pairs() -> Iterator[tuple[str, Kind]]:
    for suffix, weight in {
        "jpg": 18,
        "png": 16,
        "gif": 8,
        "webp": 8,
        "tiff": 14,
        "bmp": 6,
        "avif": 5,
        "jp2": 6,
        "ppm": 5,
    }.items():
        change = structured.any_png if suffix == "png" else mutators.any_text if suffix == "ppm" else mutators.any_bytes
        yield suffix, Kind(weight, lambda suffix=suffix: seeds.images(suffix), change, _image)  # type: ignore[misc]
    yield "video", Kind(10, seeds.videos, mutators.any_bytes, _video)
    yield "playlist", Kind(3, lambda: tuple(seeds.playlists()), mutators.any_text, _video)
    yield "mask", Kind(5, lambda: seeds.masks()[:2], structured.any_png, _masked)
    yield "mask-classes", Kind(1, lambda: seeds.masks()[2:], mutators.any_text, _masked)
    yield "yolo-yaml", Kind(14, lambda: seeds.yolo("yolo-yaml"), structured.any_yaml, _yolo)
    yield "yolo-labels", Kind(8, lambda: seeds.yolo("yolo-labels"), mutators.any_text, _yolo)
    yield "yolo-lists", Kind(8, lambda: seeds.yolo("yolo-lists"), mutators.any_text, _yolo)
    yield "coco", Kind(16, seeds.coco, structured.any_json, _masked)
    yield "labelme", Kind(8, seeds_of_tools.labelme, structured.any_json, _masked)
    yield "via", Kind(8, seeds_of_tools.via, structured.any_json, _masked)
    yield "via-csv", Kind(3, seeds_of_tools.via_csv, mutators.any_text, _masked)
    yield "label-studio", Kind(8, seeds_of_tools.label_studio, structured.any_json, _masked)
    yield "voc-xml", Kind(14, lambda: seeds.voc("voc-xml"), structured.any_xml, _voc)
    yield "voc-lists", Kind(4, lambda: seeds.voc("voc-lists"), mutators.any_text, _voc)
    yield "split-file", Kind(4, seeds.split_files, structured.any_json, _split_file)
    yield "cvat-xml", Kind(8, seeds.cvat, structured.any_xml, _voc)
    yield "boxes-csv", Kind(5, seeds.boxes_csv, mutators.any_text, _voc)
    yield "config", Kind(10, _models("configs"), structured.any_yaml, _config)
    yield "overrides", Kind(6, _models("overrides"), mutators.any_text, _overrides, named=False)
    yield "detector", Kind(8, _models("detectors"), structured.any_safetensors, _weights)
    yield "backbone", Kind(3, _models("backbones"), structured.any_safetensors, _weights)
    yield "pth", Kind(8, _models("torch_files"), structured.any_zip, _weights)
    yield "pth-zip", Kind(2, _models("zipped_torch_files"), structured.any_zip, _weights)
    yield "npz", Kind(4, _models("npz_files"), structured.any_zip, _weights)
    yield "checkpoint", Kind(2, _models("checkpoints"), structured.any_checkpoint, _resume, (FloatingPointError,))
    yield "log", Kind(3, _models("logs"), mutators.any_text, _log)
    yield "onnx", Kind(8, _models("onnx_files"), _onnx_change, _onnx)
    yield "measurements", Kind(6, _models("measurements"), structured.any_json, _measurements)
    yield "reproduction", Kind(5, _models("reproductions"), structured.any_json, _reproduction)
    yield "meter", Kind(5, _models("meters"), mutators.any_text, _meter)


KINDS: Mapping[str, Kind] = dict(_pairs())


@cache
def seeds_of(kind: str) -> Sequence[Seed]:
    return tuple(KINDS[kind].seeds())
