"""OpenVINO finds what ONNX Runtime finds, in its own files and in ONNX files."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from vovnet.export.network_folder import set_folder_info
from vovnet.export.onnx_file import set_info
from vovnet.export.openvino_file import write_openvino
from vovnet.limits import set_limit
from vovnet.runtime import openvino as subject
from vovnet.runtime.network_folder import digest
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.opening import open_session
from vovnet.runtime.openvino import OpenVinoSession

from ..shipped_network import bccd_images, bccd_network, ordered


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with bccd.onnx and bccd_openvino/. Nobody may change them."""
    root = tmp_path_factory.mktemp("exported")
    network, info = bccd_network()
    described = onnx.ModelProto()
    described.CopyFrom(network)
    set_info(described, info)
    onnx.save(described, root / "bccd.onnx")
    write_openvino(network, info, root / "bccd_openvino")
    return root


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    """A copy of the exported folder, to change."""
    return Path(shutil.copytree(exported / "bccd_openvino", tmp_path / "bccd_openvino"))


@pytest.fixture(scope="module")
def judge(exported):
    return OnnxSession(exported / "bccd.onnx", 1)


def test_threads_get_the_results_of_their_own_images(exported):
    session = OpenVinoSession(exported / "bccd_openvino", 1)
    images = bccd_images("val", 4)
    alone = [ordered(session.run(image[None], 0.05)) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda index: ordered(session.run(images[index][None], 0.05)), [*range(4)] * 5))
    for index, rows in enumerate(found):
        np.testing.assert_array_equal(rows.boxes, alone[index % 4].boxes)


@pytest.mark.skipif(sys.platform != "linux", reason="the stack of signals is Linux's")
def test_ctrl_c_arrives_after_sessions_end_in_any_order(exported):
    """A thread that is left with a stack for signals that is gone ends the process at the next signal."""
    program = (
        "import gc, signal, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from vovnet.runtime.openvino import OpenVinoSession\n"
        "first, second = (OpenVinoSession(Path(sys.argv[1]), 1) for _ in range(2))\n"
        "height, width = first.info.image_size\n"
        "images = np.zeros((1, 3, height, width), np.uint8)\n"
        "first.run(images, 0.5), second.run(images, 0.5)\n"
        "del first\ngc.collect()\ndel second\ngc.collect()\n"
        "signal.signal(signal.SIGINT, lambda *_: print('arrived'))\nsignal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported / "bccd_openvino")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr


@pytest.mark.parametrize("name", ["bccd_openvino", "bccd.onnx"])
def test_it_finds_what_onnx_runtime_finds(exported, judge, name):
    session = open_session(exported / name, runtime="openvino", threads=1)
    assert session.info == judge.info
    assert session.runtime == "openvino"
    images = bccd_images("val", 5)
    for batch in (1, 3, 2, 5, 4, 1):  # more than have a network of their own
        found, expected = ordered(session.run(images[:batch], 0.05)), ordered(judge.run(images[:batch], 0.05))
        assert set(expected.image) == set(range(batch))
        for name in ("image", "labels"):
            assert getattr(found, name).dtype == np.int64
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.boxes.dtype == found.scores.dtype == np.float32
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)


def test_images_without_objects_give_no_rows(exported):
    rows = OpenVinoSession(exported / "bccd_openvino", 1).run(bccd_images("val", 2), 1.0)
    assert (rows.image.shape, rows.boxes.shape, rows.labels.shape, rows.scores.shape) == ((0,), (0, 4), (0,), (0,))


def test_networks_of_few_batch_sizes_are_held(exported):
    session = OpenVinoSession(exported / "bccd_openvino", 1)
    for batch in range(1, 7):
        session.run(np.zeros((batch, 3, 300, 300), np.uint8), 0.5)
    assert len(session._requests) == 4


def test_float32_is_float32(exported):
    """OpenVINO computes in bf16 by itself where the CPU has it."""
    session = OpenVinoSession(exported / "bccd_openvino", 2)
    session.run(bccd_images("val", 1), 0.5)
    compiled = session._requests[1, 3, 300, 300].get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    precisions = {_entry(op, "runtimePrecision") for op in compiled.get_runtime_model().get_ops()}
    assert "f32" in precisions
    assert not precisions & {"bf16", "f16"}


def _entry(op, name):
    return op.get_rt_info()[name].astype(str)


def test_bf16_keeps_the_boxes_and_nms_in_float32(folder, judge):
    session = OpenVinoSession(folder, 1)
    if not subject.has_bf16(session._core):
        pytest.skip("this CPU has no bf16 instructions")
    set_folder_info(folder, replace(session.info, precision="bf16"))
    session = OpenVinoSession(folder, 1)
    images = bccd_images("val", 1)
    found, expected = ordered(session.run(images, 0.4)), ordered(judge.run(images, 0.4))
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.02)
    assert not np.array_equal(found.scores, expected.scores)
    operations = session._requests[1, 3, 300, 300].get_compiled_model().get_runtime_model().get_ops()
    precisions = {kind: {_entry(op, "runtimePrecision") for op in operations if _entry(op, "layerType") == kind}
                  for kind in ("Convolution", "Softmax", "TopK", "NonMaxSuppression", "GatherND")}  # fmt: skip
    assert precisions.pop("Convolution") == {"bf16"}
    assert list(precisions.values()) == [{"f32"}] * 4
    decoding = [op for op in operations if "exp" in _entry(op, "originalLayersNames")]
    assert [_entry(op, "runtimePrecision") for op in decoding] == ["f32"]


def test_bf16_on_a_cpu_without_it_runs_in_float32_and_says_so(folder, judge, monkeypatch, caplog):
    set_folder_info(folder, replace(judge.info, precision="bf16"))
    monkeypatch.setattr(subject, "has_bf16", lambda core: False)
    with caplog.at_level(logging.WARNING, "vovnet"):
        session = OpenVinoSession(folder, 1)
    assert caplog.messages == [f"{folder} runs in float32, because this CPU has no bf16 instructions"]
    images = bccd_images("val", 1)
    np.testing.assert_allclose(
        ordered(session.run(images, 0.4)).scores, ordered(judge.run(images, 0.4)).scores, atol=1e-5
    )


def test_without_pytorch(exported):
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from vovnet.runtime.openvino import OpenVinoSession\n"
        f"session = OpenVinoSession(Path({str(exported / 'bccd_openvino')!r}), 1)\n"
        "session.run(np.zeros((1, 3, 300, 300), np.uint8), 0.5)\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "openvino" in loaded
    assert not {"torch", "onnx", "onnxruntime", "nncf", "openvino_telemetry"} & set(loaded)


def edit_info(folder: Path, **changes: object) -> None:
    path = folder / "vovnet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        OpenVinoSession(path, 1)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_foreign_folder(folder):
    (folder / "vovnet.json").unlink()
    assert "holds no vovnet.json, so it is no detector that vovnet exported" in refusal(folder)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
@pytest.mark.parametrize("cut", [0, 100_000])
def test_a_truncated_file(folder, name, cut):
    (folder / name).write_bytes((folder / name).read_bytes()[:cut])
    assert f"{name} is not the file that vovnet.json describes: it is damaged, cut short or" in refusal(folder)


def test_a_missing_file(folder):
    (folder / "model.bin").unlink()
    assert "model.bin does not exist" in refusal(folder)


def test_a_description_of_a_newer_version(folder):
    edit_info(folder, format=2, vovnet="9.9")
    assert "exported by vovnet '9.9', newer than this one: update vovnet" in refusal(folder)


@pytest.mark.parametrize("files", [None, [], {}, {"model.xml": 1}, {"model.mnn": {"bytes": 1, "sha256": ""}}])
def test_a_description_of_other_files(folder, files):
    edit_info(folder, files=files)
    assert "expected model.xml and model.bin: export it again" in refusal(folder)


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """As one who means harm does: with the right digest."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "vovnet.json").read_text())["files"]
    edit_info(folder, files=files | {name: digest(content)})


def test_a_file_above_its_limit(folder, monkeypatch):
    monkeypatch.setenv("VOVNET_LIMITS", "")
    set_limit("text_bytes=1000")
    assert "model.xml has more than 1,000 bytes" in refusal(folder)


def test_a_foreign_network_with_a_right_digest(folder):
    import openvino
    from openvino import opset8

    given = opset8.parameter([1, 3], np.float32, name="given")
    model = openvino.Model([opset8.relu(given)], [given], "foreign")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    for name in ("model.xml", "model.bin"):
        rewrite(folder, name, (folder / name).read_bytes())
    assert "which are not those of a detector that vovnet exported: export it again" in refusal(folder)


def test_a_damaged_network_with_a_right_digest(folder):
    text = (folder / "model.xml").read_bytes()
    for content in (b"", b"\0" * 100, text[:5000], text.replace(b'"Convolution"', b'"Konvolution"')):
        rewrite(folder, "model.xml", content)
        assert refusal(folder).startswith(f"{folder} cannot be read by OpenVINO (")
    rewrite(folder, "model.xml", text)
    rewrite(folder, "model.bin", b"\0" * 1000)
    assert refusal(folder).startswith(f"{folder} cannot be read by OpenVINO (")


BOUNDED = """
import resource, sys
from pathlib import Path
import numpy as np
from vovnet.runtime.openvino import OpenVinoSession
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
print(len(OpenVinoSession(Path(sys.argv[1]), 1).run(np.zeros((1, 3, 300, 300), np.uint8), 1.0).image))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_entities_in_xml_are_not_expanded(folder):
    """A name of 1000 · 100⁸ characters, and one that is the content of another file."""
    entities = "".join(f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 100}">' for level in range(8))
    bomb = f'<!DOCTYPE net [<!ENTITY a "{"x" * 1000}">{entities}<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    text = (folder / "model.xml").read_text()
    for name in ("&i;", "&file;"):
        changed = text.replace('<net name="', f'{bomb}<net name="{name}', 1)
        assert changed != text
        rewrite(folder, "model.xml", changed.encode())
        command = [sys.executable, "-c", BOUNDED, str(folder)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_a_foreign_onnx_file(tmp_path):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(bccd_network()[0].SerializeToString())
    assert "is no detector that vovnet exported" in refusal(path)


def test_a_truncated_onnx_file(exported, tmp_path):
    path = tmp_path / "cut.onnx"
    for cut in (0, 1000, 10_000_000):
        path.write_bytes((exported / "bccd.onnx").read_bytes()[:cut])
        assert "is no ONNX file, or is damaged or cut short: export it again" in refusal(path)


def test_wrong_images(exported):
    session = OpenVinoSession(exported / "bccd_openvino", 1)
    for shape in ((1, 3, 300, 299), (0, 3, 300, 300), (3, 300, 300)):
        with pytest.raises(ValueError, match=r"images must be a NumPy array of uint8 RGB \(N, 3, 300, 300\)"):
            session.run(np.zeros(shape, np.uint8), 0.5)


def test_without_openvino(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(subject, "openvino_core", subject.openvino_core.__wrapped__)  # of which the process has one
    with pytest.raises(ModuleNotFoundError, match=r'OpenVINO needs an extra: pip install "vovnet\[openvino\]"'):
        OpenVinoSession(exported / "bccd_openvino")
