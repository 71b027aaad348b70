"""The card of weights on a hub: what their file says of them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from vovnet.errors import UsageError, counted, install_extra
from vovnet.files import encodable
from vovnet.printing import line, quoted
from vovnet.report.document import Part, Section, Table, escape_block, escape_markdown, to_markdown
from vovnet.weights.backbone import read_weights
from vovnet.weights.detector import LoadedModel, load_model
from vovnet.weights.file import BACKBONE_FORMAT, DETECTOR_FORMAT, problem, read_safetensors
from vovnet.weights.translate import BackboneWeights
from vovnet.zoo import create_backbone

_METRICS = {"voc07_map": "mAP (VOC07)", "coco_ap": "COCO AP", "coco_mask_ap": "COCO AP of the masks"}
_ORIGIN = ("source", "source_scheme", "source_sha256")  # of imported weights
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Card:
    """A card, and the record in the weights that it tells of, which is published with them.

    text: Markdown, with the header that the hub reads.
    is_detector: whether the weights are those of a detector, else of a backbone.
    """

    text: str
    record: Mapping[str, Any]
    is_detector: bool


def make_card(path: Path, name: str, licence: str) -> Card:
    """The card of a detector or backbone in a safetensors file of ours.

    name: by which the weights are loaded, "hf:owner/name".
    licence: a name such as "apache-2.0", as the hub lists them.

    Raises ValueError if the file is damaged or holds something else, UsageError for another kind of file.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence) is None:
        raise UsageError(f"expected a licence by its name on the hub, such as apache-2.0, got {quoted(licence)}")
    if path.suffix != ".safetensors":
        raise UsageError(f"expected weights in a .safetensors file, got {line(str(path), 200)}")
    _, metadata = read_safetensors(path)
    kind = metadata.get("format")
    if kind == DETECTOR_FORMAT:
        loaded = load_model(path)
        return Card(_detector_card(loaded, name, licence), loaded.record, is_detector=True)
    if kind == BACKBONE_FORMAT:
        origin: dict[str, str] = {
            key: metadata[key] for key in ("source", "source_sha256", "source_scheme") if key in metadata
        }
        return Card(_backbone_card(read_weights(path), origin, name, licence), {"imported": origin}, is_detector=False)
    raise problem(
        path,
        f"holds neither a detector nor a backbone of vovnet (its format is {quoted(kind)}); vovnet weights import "
        "converts weights of other projects",
    )


def _detector_card(loaded: LoadedModel, name: str, licence: str) -> str:
    info, thresholds = loaded.info, loaded.score_thresholds
    header = ["label", "class", "category id"] + ["score threshold"] * (thresholds is not None)
    rows = [
        [str(label), _code(class_name), str(category)] + ([] if thresholds is None else [f"{thresholds[label]:.3f}"])
        for label, (class_name, category) in enumerate(zip(info.class_names, info.category_ids, strict=True))
    ]
    notes = [f"and {len(rows) - _MOST_CLASSES:,} more"] if len(rows) > _MOST_CLASSES else []
    python = f'detector = vovnet.load("{name}")\ndetections = detector.predict("photo.jpg")'
    return _card(
        _header(licence, "object-detection", [info.name]),
        name,
        f"Weights of the detector `{info.name}` for {counted(len(info.class_names), 'class', 'classes')}, with "
        f"{_parameters(loaded.model):,} parameters.",
        _use(name, f"vovnet predict photo.jpg --weights {name}", python),
        [
            Section("Accuracy", _accuracy(loaded.record)),
            Section("Classes", [Table(header, rows[:_MOST_CLASSES], notes=notes)]),
            Section("Origin", [*_origin(loaded.record), _input(loaded.model.preprocessing)]),
        ],
    )


def _backbone_card(weights: BackboneWeights, origin: Mapping[str, str], name: str, licence: str) -> str:
    classes = weights.num_classes
    network = create_backbone(weights.model, **weights.options_for(weights.model, {"features_only": classes is None}))
    head = "without a classifier" if classes is None else f"with a classifier of {counted(classes, 'class', 'classes')}"
    options = ", ".join(f"`{key}={value!r}`" for key, value in weights.options.items())
    python = f'backbone = vovnet.create_backbone("{weights.model}", weights="{name}", features_only=True)'
    pixels = weights.pixels
    return _card(
        _header(licence, "image-feature-extraction" if classes is None else "image-classification", [weights.model]),
        name,
        f"Weights of the backbone `{weights.model}` {head}, with {_parameters(network):,} parameters"
        + (f" and the options {options}." if options else "."),
        _use(name, f"vovnet train config.yaml backbone_weights={name}", python),
        [
            Section(
                "Origin",
                [
                    *_origin({"imported": origin} if origin else {}),
                    f"Images: {pixels['channel_order']}, mean {_numbers(pixels['mean'])}, standard deviation "
                    f"{_numbers(pixels['std'])} on the scale from 0 to 255.",
                ],
            )
        ],
    )


def _card(header: str, name: str, introduction: str, use: str, sections: Sequence[Section]) -> str:
    title = escape_markdown(name.rpartition("/")[2])
    body = "\n".join(to_markdown(section) for section in sections)
    return encodable(f"{header}\n# {title}\n\n{escape_block(introduction)}\n\n{use}\n{body}")


def _header(licence: str, task: str, tags: Sequence[str]) -> str:
    fields = {"license": licence, "library_name": "vovnet", "pipeline_tag": task, "tags": ["vovnet", *tags]}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n"


def _use(name: str, command: str, python: str) -> str:
    return (
        f"## Use\n\nNeeds the Python package vovnet with its extra `hub`: {install_extra('hub')}.\n\n"
        f"```\n{command}\n```\n\n```python\nimport vovnet\n\n{python}\n```\n"
    )


def _accuracy(record: Mapping[str, Any]) -> list[Part]:
    """What the record says was measured, split by split."""
    parts: list[Part] = []
    tested = {split: part for split, part in record.items() if isinstance(part, Mapping) and _share(part, "voc07_map")}
    if tested:
        header = ["split", "images", "mAP (VOC07)", "COCO AP", "COCO AP50", "COCO AP75"]
        rows = []
        for split, part in tested.items():
            coco = part.get("coco")
            figures = [_share(coco if isinstance(coco, Mapping) else {}, key) or "–" for key in ("AP", "AP50", "AP75")]
            images = part.get("images")
            count = f"{images:,}" if isinstance(images, int) else "–"
            rows.append([line(str(split), 60), count, str(_share(part, "voc07_map")), *figures])
        parts.append(Table(header, rows))
    for key, title in _METRICS.items():
        if value := _share(record, f"val_{key}"):
            step = record.get("step")
            at = f"after step {step:,} of the training" if isinstance(step, int) else "in training"
            parts.append(
                f"The {title} on the images of the split {_code(_split_of_run(record))} {at}: {value}. Where a run "
                "chose its best weights by it, it is a little higher than that of new images."
            )
    return parts or ["The file states no accuracy."]


def _split_of_run(record: Mapping[str, Any]) -> str:
    """The split that the run evaluated on."""
    config = record.get("config")
    data = config.get("data") if isinstance(config, Mapping) else None
    split = data.get("val") if isinstance(data, Mapping) else None
    return split if isinstance(split, str) and split else "val"


def _origin(record: Mapping[str, Any]) -> list[Part]:
    """When and with what the weights were trained, or what they were converted from."""
    imported, versions = record.get("imported"), record.get("versions")
    if isinstance(imported, Mapping) and imported:
        source, scheme, digest = (line(str(imported.get(key, "unknown")), 200) for key in _ORIGIN)
        return [f"Converted from weights of {scheme}: {_code(source)}, SHA-256 {_code(digest)}."]
    images, date = record.get("train_images"), record.get("date")
    facts = [f"on {images:,} images"] if isinstance(images, int) else []
    if isinstance(versions, Mapping):
        known = {"vovnet": "vovnet", "torch": "PyTorch"}
        used = [f"{title} {line(str(versions[key]), 40)}" for key, title in known.items() if key in versions]
        facts += [f"with {' and '.join(used)}"] if used else []
    facts += [f"({line(date, 20)})"] if isinstance(date, str) else []
    return [f"Trained {' '.join(facts)}."] if facts else []


def _input(preprocessing: Any) -> str:
    height, width = preprocessing.image_size
    if preprocessing.keep_ratio:
        size = f"keep their aspect ratio, with a shorter side of {height} pixels and a longer one of at most {width}"
    else:
        size = f"are resized to {height} × {width} pixels"
    return (
        f"Images {size}; {preprocessing.channel_order}, mean {_numbers(preprocessing.mean)}, standard deviation "
        f"{_numbers(preprocessing.std)} on the scale from 0 to 255. `vovnet` does this itself."
    )


def _share(values: Mapping[str, Any], key: str) -> str:
    """A share as per cent, nothing if it is no number from 0 to 1: the file may be a stranger's."""
    value = values.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return f"{100 * value:.1f} %"
    return ""


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{float(value):.6g}" for value in values)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _code(text: str) -> str:
    """A foreign text as code, unless it has a backtick."""
    text = line(text, 200)
    return text if "`" in text else f"`{text}`"
