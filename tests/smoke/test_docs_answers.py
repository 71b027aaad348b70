"""What the documents say that programs print, answer and read is what they print, answer and read."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from vovnet.data.formats import open_dataset, recognise
from vovnet.engine.config import load_config
from vovnet.engine.predicting.predictor import Running
from vovnet.engine.predicting.runtimes import describe_running

from ..pages import WALKED, WRITTEN, Block, all_blocks, commands_of
from ..small_voc import write_small_voc

QUOTED = [
    block for block in all_blocks(WRITTEN) if block.page not in WALKED and block.language in ("text", "json", "yaml")
]
TESTED = {
    "docs/predict.md: bccd runs as int8": "test_the_line_about_what_runs",
    'docs/runtime.md: {"width"': "test_the_service_answers_as_quoted",
    'docs/data.md: {"vovnet_split"': "test_the_split_file_is_read",
    "docs/train.md: model: dsod300_vovnet27_slim": "test_the_config_loads",
    "README.md: vovnet predict SOURCE…": "the list of commands, see test_docs_commands.py",
    "README.md: src/vovnet/": "the tree, see test_docs.py",
    "docs/energy.md: idle 5 s": "a drawing of the protocol",
    "docs/measure.md: count operations": "a drawing of the protocol",
}
"""How the blocks begin that are neither commands nor Python, and the tests of what they quote."""


def quoted(start: str) -> Block:
    (block,) = (block for block in all_blocks(WRITTEN) if str(block).startswith(start))
    return block


@pytest.mark.parametrize("block", QUOTED, ids=str)
def test_every_quoted_block_has_a_test(block):
    """Whoever quotes what a program prints lists the block, and writes a test."""
    (test,) = (test for start, test in TESTED.items() if str(block).startswith(start))
    assert test in globals() or not test.startswith("test_")


@pytest.mark.parametrize("start", TESTED)
def test_listed_blocks_are_there(start):
    assert quoted(start) in QUOTED


def test_the_line_about_what_runs():
    stands = quoted("docs/predict.md: bccd runs").text.strip()
    file = Path("/home/me/bccd_openvino")
    detector = SimpleNamespace(running=Running("openvino", "int8", file), exported_on="2026-05-04")
    assert describe_running(detector, "bccd") == stands


def test_the_format_is_said_as_quoted(tmp_path):
    write_small_voc(tmp_path / "data", train=1, val=1)
    (tmp_path / "data/annotations").mkdir()
    (tmp_path / "data/annotations/train.json").write_text('{"images": [], "annotations": [], "categories": []}')
    stated = re.search(r"`format: (VOC, because [^`]+)`", " ".join(Path("docs/data.md").read_text().split()))
    assert recognise(tmp_path / "data").sentence() == stated[1]


def test_the_split_file_is_read(tmp_path):
    write_small_voc(tmp_path / "data", train=1, val=1)
    images = tmp_path / "data/JPEGImages"
    for image, name in zip(sorted(images.iterdir()), "ab", strict=True):
        annotation = tmp_path / "data/Annotations" / f"{image.stem}.xml"
        annotation.rename(annotation.with_stem(name))
        image.rename(image.with_stem(name))
    shutil.rmtree(tmp_path / "data/ImageSets")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/splits.json").write_text(quoted('docs/data.md: {"vovnet_split"').text)
    for split, name in (("train", "a"), ("val", "b")):
        (sample,) = open_dataset(tmp_path / "here/splits.json", split)
        assert sample.image_path.stem == name


def test_the_config_loads(tmp_path):
    text = quoted("docs/train.md: model:").text
    (tmp_path / "my.yaml").write_text(text)
    config = load_config(str(tmp_path / "my.yaml"))
    assert config.model_dump(exclude_unset=True, mode="json")["schedule"] == yaml.safe_load(text)["schedule"]


def test_the_service_answers_as_quoted(tmp_path, bccd_onnx):
    """The commands of the page start it and ask it; the answer is the one on the page, up to rounding."""
    serve, ask = commands_of(quoted("docs/runtime.md: vovnet-runtime serve"))
    os.link(bccd_onnx, tmp_path / "bccd.onnx")
    words = shlex.split(serve.replace("--port 8000", "--port 0"))
    program = [sys.executable, "-c", "from vovnet.runtime.command import main; main()", *words[1:]]
    photo = re.search(r"With `(\S+)` as the photo", Path("docs/runtime.md").read_text())
    assert photo is not None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(program, cwd=tmp_path, text=True, **pipes) as service:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/?", service.stdout.readline())
            assert address is not None
            assert re.sub(r":\d+/?$", ":8000/", address[0]) in shlex.split(ask)
            with urllib.request.urlopen(address[0], Path(photo[1]).read_bytes(), timeout=60) as response:
                answer = json.load(response)
        finally:
            service.terminate()
    stated = json.loads(quoted('docs/runtime.md: {"width"').text)
    assert (answer["width"], answer["height"]) == (stated["width"], stated["height"])
    (expected,) = stated["detections"]
    (found,) = answer["detections"]
    assert found.keys() == expected.keys()
    assert found["class"] == expected["class"]
    assert abs(found["score"] - expected["score"]) < 0.01
    assert all(abs(a - b) < 1 for a, b in zip(found["box"], expected["box"], strict=True))
