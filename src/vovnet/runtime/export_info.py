"""What an exported file says of its detector: all that its use needs besides the network itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vovnet.limits import check_limit, limits, too_much
from vovnet.parsing import parse_json
from vovnet.printing import quoted

FORMAT = 1
PRECISIONS = ("float32", "bf16", "int8")
RUNTIMES = ("onnxruntime", "openvino", "mnn")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """Stored as JSON: in an ONNX file under the key "vovnet" of its metadata, else as vovnet.json beside the network.

    detector: name of the model, such as dsod300_vovnet27_slim.
    class_names, category_ids: in the order of the labels.
    image_size, keep_ratio, antialias: how images are resized, as in `vovnet.models.preprocessing.Preprocessing`. Mean,
        standard deviation and channel order are part of the network.
    score_threshold, nms_threshold, candidates, top_k: the detector's defaults, see `select_detections`.
    masks: whether it predicts masks.
    precision: of the network.
    weights_sha256: of the tensors from which it was exported, see `vovnet.weights.digest`.
    vovnet: version that exported it.
    record: what the weights say of their training.
    gate: what the comparison with the PyTorch model found, see `vovnet.export.gate`.
    score_thresholds: one for each class, which predictions use unless they are given another; None, as in files of
        older versions, without them.
    """

    detector: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_size: tuple[int, int]
    keep_ratio: bool
    antialias: bool
    score_threshold: float
    nms_threshold: float
    candidates: int
    top_k: int
    masks: bool
    precision: str
    weights_sha256: str
    vovnet: str
    record: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    score_thresholds: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """What is stored: without score thresholds if there are none, as in files of older versions."""
        stated = asdict(self)
        if self.score_thresholds is None:
            del stated["score_thresholds"]
        return stated

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self.to_dict()})

    @classmethod
    def from_json(cls, text: bytes | str) -> ExportInfo:
        """Raises ValueError, whose text goes on after the name of the file, if it is damaged or of a newer version."""
        if len(text) > limits().header_bytes:
            raise too_much("header_bytes", "holds a description that")
        values = parse_json(text)
        if not isinstance(values, dict) or type(values.get("format")) is not int:
            raise ValueError("is no detector that vovnet exported: export one with vovnet export")
        if values["format"] > FORMAT:
            raise ValueError(
                f"was exported by vovnet {quoted(values.get('vovnet'))}, newer than this one: update vovnet"
            )
        for name, (expected, right) in _EXPECTED.items():
            if name not in values:
                raise ValueError(f"lacks {name} in its description: export it again")
            if not right(values[name]):
                found = quoted(values[name])
                raise ValueError(f"has {name} {found} in its description, expected {expected}: export it again")
        names, ids = tuple(values["class_names"]), tuple(values["category_ids"])
        if len(names) != len(ids):
            raise ValueError(
                f"has {len(names)} class names and {len(ids)} category ids in its description, expected one id for "
                "each class: export it again"
            )
        thresholds = values.get("score_thresholds")
        if thresholds is not None and not (_list_of(_fraction)(thresholds) and len(thresholds) == len(names)):
            raise ValueError(
                f"has score_thresholds {quoted(thresholds)} in its description, expected a number from 0 to 1 for each "
                f"of {len(names)} classes: export it again"
            )
        height, width = values["image_size"]
        check_limit("network_pixels", height * width, f"describes a network's input of {height} × {width}, which")
        rest: dict[str, Any] = {item.name: values.get(item.name) for item in fields(cls)}
        rest |= {"class_names": names, "category_ids": ids, "image_size": (height, width)}
        return cls(**{**rest, "score_thresholds": None if thresholds is None else tuple(thresholds)})


_Check = Callable[[Any], bool]


def _text(value: Any, most: int = 200) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most


def _whole(value: Any, least: int = 1, most: int = 2**31 - 1) -> bool:
    return type(value) is int and least <= value <= most


def _fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _list_of(right: _Check) -> _Check:
    return lambda values: isinstance(values, list) and len(values) > 0 and all(map(right, values))


def _distinct(right: _Check) -> _Check:
    return lambda values: _list_of(right)(values) and len(set(values)) == len(values)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


_EXPECTED: Mapping[str, tuple[str, _Check]] = {
    "detector": ("a name", _text),
    "class_names": ("a list of different names", _distinct(lambda name: _text(name, limits().header_bytes))),
    "category_ids": ("a list of different whole numbers", _distinct(lambda value: _whole(value, -(2**63), 2**63 - 1))),
    "image_size": ("[height, width]", lambda value: _list_of(_whole)(value) and len(value) == 2),
    "keep_ratio": ("true or false", _flag),
    "antialias": ("true or false", _flag),
    "score_threshold": ("a number from 0 to 1", _fraction),
    "nms_threshold": ("a number from 0 to 1", _fraction),
    "candidates": ("a whole number of at least 1", _whole),
    "top_k": ("a whole number of at least 1", _whole),
    "masks": ("true or false", _flag),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
    "weights_sha256": ("64 hexadecimal digits", lambda value: _text(value) and bool(_SHA256.fullmatch(value))),
    "vovnet": ("a version", _text),
    "record": ("an object", _object),
    "gate": ("an object", _object),
}
