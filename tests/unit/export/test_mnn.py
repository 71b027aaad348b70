"""MNN finds what PyTorch finds, prints, writes and sends nothing, and refuses damaged files in a sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vovnet.errors import UsageError
from vovnet.export.mnn_file import write_mnn
from vovnet.export.onnx_file import make_network
from vovnet.export.source import describe_export
from vovnet.runtime.mnn import MnnSession
from vovnet.runtime.opening import is_exported, open_session
from vovnet.runtime.selection import Arrays, select_images
from vovnet.weights.detector import load_weights
from vovnet.zoo import create_model

from ..shipped_network import bccd_images

SIZES = [(480, 640)]


@cache
def loaded():
    return load_weights("bccd")


@cache
def network():
    """Nobody may change it."""
    return make_network(loaded().model)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """Nobody may change it."""
    folder = tmp_path_factory.mktemp("exported") / "bccd_mnn"
    write_mnn(network(), describe_export(loaded(), "float32"), folder)
    return folder


@pytest.fixture(scope="module")
def session(exported) -> MnnSession:
    return MnnSession(exported, 1)


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied_mnn"))


def by_pytorch(model, images, threshold: float) -> list[Arrays]:
    with torch.no_grad():
        outputs = model(model.preprocessing.normalize(torch.tensor(images)))
    detections = model.decode(outputs, SIZES * len(images), score_threshold=threshold)
    return [Arrays(d.boxes.numpy(), d.labels.numpy(), d.scores.numpy(), d.image_size) for d in detections]


def check_same(found: list[Arrays], expected: list[Arrays]) -> int:
    """The number of detections, after comparing those of each image one by one, best first."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.05)
    return sum(len(arrays.scores) for arrays in expected)


def detect(session: MnnSession, images, threshold: float) -> list[Arrays]:
    size = session.info.image_size
    rows, sizes = session.run(images, threshold), SIZES * len(images)
    return select_images(rows, sizes, size, score_threshold=threshold, top_k=session.info.top_k)


def test_the_shipped_detector_finds_what_pytorch_finds(session):
    images = bccd_images("val", 6)
    for count in (1, 3, 2, 1):
        assert check_same(detect(session, images[:count], 0.3), by_pytorch(loaded().model, images[:count], 0.3)) > 10


def test_a_second_detector_finds_what_pytorch_finds(tmp_path):
    check_random_weights("ssd300_mobilenet", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pelee304", {}),
        (
            "ssdfpn320_vovnet19_tiny",
            {"pixels": {"std": [57.0] * 3}},
        ),  # or its untrained logits are too large to compare
        ("dsod300_densenet67", {}),
        ("refinedet320_vovnet39", {}),
    ],
)
def test_other_detectors_find_what_pytorch_finds(name, options, tmp_path):
    check_random_weights(name, tmp_path, **options)


def check_random_weights(name: str, folder: Path, **options: Any) -> None:
    """All boxes and scores, before NMS: random weights give many that are nearly equal."""
    torch.manual_seed(0)
    model = create_model(name, 3, **options).eval()
    size = model.preprocessing.image_size
    info = replace(describe_export(loaded(), "float32"), detector=name, image_size=size, candidates=model.candidates)
    write_mnn(make_network(model), info, folder / "it_mnn")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, *size), dtype=np.uint8)
    with torch.no_grad():
        boxes, scores = model.boxes_and_scores(model(model.preprocessing.normalize(torch.tensor(images))))
    found = MnnSession(folder / "it_mnn", 1).raw(images)
    np.testing.assert_allclose(found[1], scores.numpy(), atol=1e-5)
    np.testing.assert_allclose(found[0], boxes.numpy(), atol=0.5, rtol=1e-3)


def test_threads_get_the_results_of_their_own_images(session):
    batches = [bccd_images("val", 3)[index : index + 1] for index in range(3)]
    expected = [session.raw(batch)[1] for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda batch: session.raw(batch)[1], batches * 4))
    for scores, own in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(scores, own)


@pytest.mark.parametrize(("code", "error"), [(1, MemoryError), (4, ValueError)])
def test_a_pass_that_fails_is_an_error(exported, monkeypatch, code, error):
    session = MnnSession(exported, 1)
    network = SimpleNamespace(
        resizeTensor=lambda *a: None, resizeSession=lambda *a: None, runSession=lambda session: code
    )
    monkeypatch.setattr(session, "_network", network)
    with pytest.raises(error, match=rf"fails in MNN on 1 images \(code {code}\): "):
        session.run(np.zeros((1, 3, 300, 300), np.uint8), 0.5)


def test_images_without_objects_give_no_rows(session):
    rows = session.run(np.zeros((3, 3, 300, 300), np.uint8), 0.9)
    assert rows.image.shape == rows.labels.shape == rows.scores.shape == (0,)
    assert rows.boxes.shape == (0, 4)


def test_the_session_opens_as_any_other(exported):
    assert is_exported(exported)
    opened = open_session(exported, threads=2)
    assert opened.runtime == "mnn"
    assert opened.info == describe_export(loaded(), "float32")


@pytest.mark.parametrize("images", [np.zeros((1, 3, 200, 200), np.uint8), np.zeros((1, 3, 300, 300), np.float32)])
def test_other_images_are_refused(session, images):
    with pytest.raises(ValueError, match="images must be"):
        session.run(images, 0.3)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_are_refused(precision, tmp_path):
    with pytest.raises(UsageError, match=f"in float32 only, not in {precision}: use --to openvino for {precision}"):
        write_mnn(network(), describe_export(loaded(), precision), tmp_path / "it_mnn")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_refused(tmp_path):
    import onnx

    foreign = onnx.ModelProto()
    foreign.CopyFrom(network())
    foreign.graph.node[-1].op_type = "NoSuchOperation"
    with pytest.raises(ValueError, match="MNN cannot convert dsod300_vovnet27_slim: export it with --to onnx"):
        write_mnn(foreign, describe_export(loaded(), "float32"), tmp_path / "it_mnn")
    assert not list(tmp_path.iterdir())


_QUIET = """
import os, pickle, socket, subprocess, sys
from pathlib import Path
refuse = lambda *a, **k: os.write(2, b"connects") and os._exit(3)
socket.socket.connect = socket.getaddrinfo = os.system = subprocess.Popen.__init__ = refuse
import onnx
from vovnet.export.mnn_file import write_mnn
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.mnn import MnnSession
import numpy as np
write_mnn(onnx.load("in/network.onnx"), ExportInfo.from_json(Path("in/info.json").read_text()), Path("out/it_mnn"))
MnnSession(Path("out/it_mnn")).run(np.zeros((1, 3, 300, 300), np.uint8), 0.5)
assert not any(name.startswith(("MNN.tools", "aliyun")) for name in sys.modules)
print("done")
"""


def test_nothing_is_printed_sent_installed_or_left(tmp_path):
    """MNN's own tools install a package when they are imported, and report each conversion."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/network.onnx").write_bytes(network().SerializeToString())
    (tmp_path / "in/info.json").write_text(describe_export(loaded(), "float32").to_json())
    done = subprocess.run([sys.executable, "-c", _QUIET], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["in/info.json", "in/network.onnx", "out/it_mnn/model.mnn", "out/it_mnn/vovnet.json"]


_WITHOUT_TORCH = """
import sys
import numpy as np
from vovnet.runtime.mnn import MnnSession
rows = MnnSession(sys.argv[1]).run(np.zeros((1, 3, 300, 300), np.uint8), 0.01)
print(len(rows.image) > 0, sorted({"torch", "yaml", "pydantic", "rich", "onnx"} & sys.modules.keys()))
"""


def test_it_runs_without_pytorch(exported):
    done = subprocess.run([sys.executable, "-c", _WITHOUT_TORCH, str(exported)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_without_mnn_the_remedy_is_said(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    with pytest.raises(ModuleNotFoundError, match=r'MNN needs an extra: pip install "vovnet\[mnn\]"'):
        MnnSession(exported)
    monkeypatch.setitem(sys.modules, "_tools", None)
    with pytest.raises(ModuleNotFoundError, match=r'MNN needs an extra: pip install "vovnet\[mnn\]"'):
        write_mnn(network(), describe_export(loaded(), "float32"), exported.parent / "other")


def redescribe(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "vovnet.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _sign(folder: Path) -> None:
    """Make the description that of the file which is there."""
    data = (folder / "model.mnn").read_bytes()
    digest = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    redescribe(folder, lambda values: values.update(files={"model.mnn": digest}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.mnn").write_bytes(b""), "is not the file that vovnet.json describes"),
        (lambda folder: (folder / "model.mnn").write_bytes(bytes(1000)), "is not the file that vovnet.json describes"),
        (lambda folder: (folder / "model.mnn").unlink(), "model.mnn does not exist"),
        (lambda folder: (folder / "vovnet.json").unlink(), "holds no vovnet.json"),
        (lambda folder: (folder / "vovnet.json").write_text("{}"), "is no detector that vovnet exported"),
        (lambda folder: redescribe(folder, lambda values: values.update(format=9)), "newer than this one"),
        (lambda folder: redescribe(folder, lambda values: values.pop("files")), "expected model.mnn: export it again"),
    ],
)
def test_damaged_and_foreign_folders_are_refused(copied, damage, message):
    damage(copied)
    with pytest.raises(ValueError, match=message) as caught:
        MnnSession(copied)
    assert str(copied) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_for_another_number_of_classes_is_refused(copied):
    redescribe(copied, lambda values: values.update(class_names=["a", "b"], category_ids=[1, 2]))
    with pytest.raises(ValueError, match="for 1 images and 2 classes, which cannot be: export it again"):
        MnnSession(copied).run(np.zeros((1, 3, 300, 300), np.uint8), 0.5)


def test_a_foreign_network_is_refused(copied):
    import onnx
    from onnx import TensorProto, helper

    from vovnet.export.mnn_file import _convert

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("given", "result")]
    graph = helper.make_graph([helper.make_node("Relu", ["given"], ["result"])], "foreign", sides[:1], sides[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), copied / "f.onnx")
    _convert(copied / "f.onnx", copied / "model.mnn")
    _sign(copied)
    with pytest.raises(ValueError, match=r"has the inputs .* which are not those of a detector that vovnet exported"):
        MnnSession(copied)


_MUTATED = """
import random, sys
from pathlib import Path
from vovnet.runtime.mnn import MnnSession
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
contents = {path.name: path.read_bytes() for path in source.iterdir()}
refused = unchanged = 0
for seed in range(200):
    chance = random.Random(seed)
    name = ("model.mnn", "vovnet.json")[seed % 2]
    data = bytearray(contents[name])
    kind, place = chance.randrange(4), chance.randrange(len(data))
    if kind == 0:
        data = data[:place]
    elif kind == 1:
        data[place : place + chance.randrange(1, 64)] = chance.randbytes(chance.randrange(64))
    elif kind == 2:
        data[place] ^= 1 << chance.randrange(8)
    else:
        data += chance.randbytes(1 + chance.randrange(1000))
    for other, content in contents.items():
        (folder / other).write_bytes(data if other == name else content)
    try:
        MnnSession(folder)
        unchanged += 1
        assert name == "vovnet.json"
    except (ValueError, OSError) as error:
        refused += 1
        assert "\\n" not in str(error) and len(str(error)) < 1000, error
print(refused, unchanged)
"""


def test_changed_files_are_refused_or_harmless(exported, tmp_path):
    """In a process of its own, because MNN crashes on damaged networks."""
    done = subprocess.run(
        [sys.executable, "-c", _MUTATED, str(exported), str(tmp_path)], capture_output=True, text=True
    )
    assert (done.stderr, done.returncode) == ("", 0)
    refused, unchanged = map(int, done.stdout.split())
    assert refused + unchanged == 200
    assert refused >= 130
