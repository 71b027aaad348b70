"""What an exported file says of its detector: all that its use needs besides the network itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vovnet.parsing import parse_json
from vovnet.printing import quoted

FORMAT = 1
PRECISIONS = ("float32", "bf16", "int8")
RUNTIMES = ("onnxruntime", "openvino", "mnn")


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

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> ExportInfo:
        """Raises ValueError, whose text goes on after the name of the file, if it is damaged or of a newer version."""
        values = parse_json(text)
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ValueError("is no detector that vovnet exported: export one with vovnet export")
        if values.pop("format") > FORMAT:
            raise ValueError(
                f"was exported by vovnet {quoted(values.get('vovnet'))}, newer than this one: update vovnet"
            )
        known = {item.name for item in fields(cls)}
        if missing := known - values.keys():
            raise ValueError(f"lacks {sorted(missing)[0]} in its description: export it again")
        stated = {name: values[name] for name in known}
        for name in ("class_names", "category_ids", "image_size"):
            if not isinstance(stated[name], list):
                raise ValueError(
                    f"has {name} {quoted(stated[name])} in its description, expected a list: export it again"
                )
            stated[name] = tuple(stated[name])
        return cls(**stated)
