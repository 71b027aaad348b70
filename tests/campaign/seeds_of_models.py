"""Whole, valid files of weights, exported networks, settings and records, small where the format allows it."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vovnet.weights.detector import ModelInfo
from vovnet.weights.file import DETECTOR_FORMAT

from .commands import vovnet
from .seeds import ROOT, Seed, image, voc

MODEL = "dsod300_vovnet27_slim"
INFO = ModelInfo(MODEL, {"anchors": "coco"}, ("cat", "dog"), (1, 2))

CONFIG = """model: dsod300_vovnet27_slim
model_options: {anchors: coco}
data: {root: data, train: train, val: null}
optimizer: {learning_rate: 0.01, momentum: 0.9}
schedule: {iterations: 1, warmup_iterations: 0, kind: cosine}
batch_size: 2
micro_batch_size: 1
threads: 1
workers: 0
log_every: 2
seed: 3
tensorboard: false
output: run
resume: true
"""


def _saved(folder: str, write: Any) -> bytes:
    """What `write(path)` writes to a file of this name."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, folder)
        write(path)
        return path.read_bytes()


@cache
def detector() -> bytes:
    from vovnet.weights.detector import save_weights

    torch.manual_seed(0)
    return _saved("a.safetensors", lambda path: save_weights(path, INFO.build().state_dict(), INFO, {"step": 1}))


def small_detectors() -> tuple[Seed, ...]:
    """The header of a detector as a whole file is slow to write often, so most have tensors of another size only."""
    from safetensors.torch import save

    metadata = {
        "format": DETECTOR_FORMAT,
        "model": MODEL,
        "model_options": json.dumps(INFO.options),
        "class_names": '["cat", "dog"]',
        "category_ids": "[1, 2]",
        "preprocessing": json.dumps(asdict(INFO.build_on_meta().preprocessing)),
        "record": "{}",
        "score_thresholds": "[0.5, 0.25]",
    }
    options = json.dumps({"image_size": [65_536, 65_536], "pixels": {"mean": [1, 2, 3]}})
    mask_rcnn = metadata | {"model": "maskrcnn_vovnet27_slim", "model_options": options}
    tensors = {"a.weight": torch.ones(2, 2), "b": torch.zeros(3)}
    return tuple(Seed({"a.safetensors": save(tensors, entries)}) for entries in (metadata, metadata, mask_rcnn))


def detectors() -> tuple[Seed, ...]:
    return (Seed({"a.safetensors": detector()}), *small_detectors())


@cache
def _backbone_state() -> dict[str, torch.Tensor]:
    from vovnet.weights.backbone import create_backbone

    torch.manual_seed(0)
    return dict(create_backbone("mobilenet", num_classes=5).state_dict())


def backbones() -> tuple[Seed, ...]:
    from vovnet.weights.backbone import save_backbone
    from vovnet.weights.translate import BackboneWeights

    pixels = {"mean": (1.0, 2.0, 3.0), "std": (1.0, 1.0, 1.0), "channel_order": "RGB"}
    weights = BackboneWeights("x", "mobilenet", {"num_classes": 5}, pixels, _backbone_state())
    return (Seed({"a.safetensors": _saved("a.safetensors", lambda path: save_backbone(path, weights, {}))}),)


def _torch(content: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


def torch_files() -> tuple[Seed, ...]:
    state = {"module.conv.weight": torch.ones(3, 3), "module.bn.running_mean": torch.zeros(3)}
    contents: list[bytes] = [
        _torch(state),
        _torch({"state_dict": state, "epoch": 3}),
        _torch(state, _use_new_zipfile_serialization=False),
    ]
    contents.append(_torch({"model": {"state_dict": state}, "args": np.float64(3)}))
    contents.append(b"cos\nsystem\n(S'touch owned'\ntR.")
    contents.append(_torch(_backbone_state()))
    return tuple(Seed({"a.pth": content}) for content in contents)


def zipped_torch_files() -> tuple[Seed, ...]:
    found = []
    for seed, packing in zip(torch_files()[:3], (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) * 2, strict=False):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", packing) as archive:
            archive.writestr(zipfile.ZipInfo("a.pth"), seed.files["a.pth"], packing)
        found.append(Seed({"a.pth.zip": target.getvalue()}))
    return tuple(found)


def npz_files() -> tuple[Seed, ...]:
    found = []
    for save in (np.savez, np.savez_compressed):
        target = io.BytesIO()
        save(target, **{"conv1.0": np.ones((4, 3, 3, 3), np.float32), "conv1.1": np.zeros(4)})
        found.append(Seed({"a.npz": target.getvalue()}))
    return tuple(found)


@cache
def finished_run() -> dict[str, bytes]:
    """A run of one step: its config, its data, its checkpoint and its log."""
    files = {f"data/{name}": data for name, data in voc("voc-xml")[0].files.items()}
    files["data/ImageSets/Main/train.txt"] = b"a\nb\n"
    files["config.yaml"] = CONFIG.encode()
    with tempfile.TemporaryDirectory() as temporary:
        for name, data in files.items():
            path = Path(temporary, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        trained = vovnet(["train", "config.yaml"], Path(temporary))  # a process that has trained cannot fork others
        if trained.status:
            raise RuntimeError(f"the run failed: {trained.stderr!r}")
        files |= {f"run/{name}": Path(temporary, "run", name).read_bytes() for name in ("last.pt", "log.jsonl")}
    return files


def checkpoints() -> tuple[Seed, ...]:
    """The whole checkpoint, and the same without its tensors, in which a change is likely to hit a setting."""
    files = finished_run()
    content = torch.load(io.BytesIO(files["run/last.pt"]), weights_only=True)
    light = {**content, "model": {}, "ema": None, "optimizer": {"state": {}, "param_groups": []}}
    rest = {name: data for name, data in files.items() if name != "run/last.pt"}
    return tuple(Seed({"run/last.pt": data} | rest) for data in (_torch(light), files["run/last.pt"]))


def logs() -> tuple[Seed, ...]:
    files = finished_run()
    return (Seed({"run/log.jsonl": files["run/log.jsonl"] * 3} | files),)


def configs() -> tuple[Seed, ...]:
    """Of training runs, and of the study, which has settings of its own."""
    shipped = sorted((ROOT / "configs").glob("*.yaml"))
    studies = [path for path in shipped if path.stem.startswith("cifar10")]
    runs = [path for path in shipped if path not in studies and path.stem != "bccd_study"][:3]
    files = [("a.yaml", CONFIG.encode()), *(("a.yaml", path.read_bytes()) for path in runs)]
    return tuple(
        Seed({name: data}) for name, data in [*files, *(("study.yaml", path.read_bytes()) for path in studies)]
    )


def overrides() -> tuple[Seed, ...]:
    """The config stays as it is; the changed file holds the key=value arguments, one a line."""
    lines = [
        "optimizer.learning_rate=1e-3",
        "schedule.iterations=10",
        "model_options.pixels={mean: [1,2,3]}",
        "output=x",
        "batch_size=4",
    ]
    return tuple(Seed({"overrides.txt": line.encode(), "a.yaml": CONFIG.encode()}) for line in lines)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def onnx_files() -> tuple[Seed, ...]:
    import warnings

    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(_Net().eval(), (torch.zeros(1, 3, 8, 8),), target, dynamo=False)
    from onnx import TensorProto, helper

    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [1, 3, 2**31, 2**31])
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xz"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [shape])
    huge = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return (Seed({"a.onnx": target.getvalue()}), Seed({"a.onnx": target.getvalue()}), Seed({"a.onnx": huge}))


def _record(name: str) -> Any:
    return json.loads((ROOT / "docs" / "records" / name).read_text())


@cache
def measurements() -> tuple[Seed, ...]:
    record = _record("table2.json")
    record["measurements"] = record["measurements"][:1]
    for measurement in record["measurements"]:
        measurement["cost"]["layers"] = measurement["cost"]["layers"][:4]
        if measurement.get("layer_seconds"):
            measurement["layer_seconds"] = measurement["layer_seconds"][:4]
    return (Seed({"a.json": json.dumps(record).encode()}),)


def reproductions() -> tuple[Seed, ...]:
    """A folder of records as `vovnet reproduce --records` reads it."""
    table = measurements()[0].files["a.json"]
    study = (ROOT / "docs/records/bccd_study").glob("*_0.json")
    aggregation = _record("cifar10_aggregation.json")
    aggregation["runs"] = aggregation["runs"][:2]
    evaluation = {
        **_record("bccd.json"),
        "data": "x",
        "split": "test",
        "images": 3,
        "soft_nms": False,
        "voc07_map": 0.5,
        "coco": {"AP": 0.4},
    }
    files = {f"records/bccd_study/{path.name}": path.read_bytes() for path in sorted(study)[:2]}
    files["records/table2.json"] = table
    files["records/cifar10_aggregation.json"] = json.dumps(aggregation).encode()
    files["records/evaluations/voc_dsod300_vovnet27_slim.json"] = json.dumps(evaluation).encode()
    return tuple(Seed({name: files[name], **files}) for name in files)


def meters() -> tuple[Seed, ...]:
    seconds = b"timestamp,watts\n" + b"".join(b"%d.5,%d.25\n" % (1_700_000_000 + i, 10 + i) for i in range(20))
    iso = b"timestamp,watts,note\n2026-11-25T10:00:00Z,12.5,a\n"
    iso += b"2026-11-25T10:00:01+02:00,13,b\n2026-11-25T10:00:02Z,1e1,c\n"
    return (Seed({"a.csv": seconds}), Seed({"a.csv": iso}), Seed({"a.jpg": image("jpeg")}))
