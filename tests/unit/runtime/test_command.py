"""The command `vovnet-runtime`: files, JSON, exit codes, and one sentence for whatever goes wrong."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import save
from PIL import Image

from vovnet.limits import VARIABLE
from vovnet.runtime import command
from vovnet.runtime.openvino import openvino_core

from .tiny_detector import TINY, tiny_model, write_tiny

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in an empty folder with the tiny detector in it; gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    write_tiny(tmp_path / "tiny.onnx")
    Image.new("RGB", (40, 20), (51, 51, 51)).save(tmp_path / "a.png")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vovnet-runtime", *arguments])
        with pytest.raises(SystemExit) as stop:
            command.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


def test_predict(run: Run, tmp_path: Path) -> None:
    status, out, err = run("predict", "tiny.onnx", "a.png", "--score-threshold", "0.1", "--threads", "1")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "class  detections",
        "dark   1",
        "light  1",
        "",
        "1 image or frame, 2 detections; results in runs/predict",
    ]
    results = json.loads((tmp_path / "runs/predict/detections.json").read_text())
    assert [(result["category_id"], result["score"], result["bbox"]) for result in results] == [
        (3, 0.8, [20, 0, 20, 20]),
        (7, 0.2, [0, 0, 20, 20]),
    ]
    with Image.open(tmp_path / "runs/predict/drawn/a.png") as drawn:
        assert drawn.size == (40, 20)
    assert (tmp_path / "runs/predict/detections.csv").read_text().startswith("file,frame,image_id,class,score,")


def test_predict_with_every_option(run: Run, tmp_path: Path) -> None:
    options = (
        "--output o --score-threshold 0.1 --top-k 1 --classes light --batch-size 1 --runtime onnxruntime --no-draw"
        " --tiles 32 --overlap 0.5"
    )
    status, out, _ = run("predict", "tiny.onnx", "a.png", "a.png", *options.split(), "--json", "-")
    assert status == 0
    assert json.loads(out) == {"images": 2, "detections": {"dark": 0, "light": 2}, "failures": [], "output": "o"}
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["detections.csv", "detections.json"]


def test_a_detector_that_was_trained_on_tiles_says_so(run: Run, tmp_path: Path) -> None:
    record = {"config": {"data": {"tiles": {"size": 64, "overlap": 0.25}}}}
    save(tiny_model(replace(TINY, record=record)), tmp_path / "tiled.onnx")
    _, out, _ = run("predict", "tiled.onnx", "a.png", "--no-draw")
    assert out.splitlines()[0] == (
        "these weights were trained on tiles of 64 pixels: --tiles 64 --overlap 0.25 detects in such tiles too"
    )
    assert "trained on tiles" not in run("predict", "tiled.onnx", "a.png", "--no-draw", "--tiles", "64")[1]


def test_info(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("info", "tiny.onnx", "--json", "info.json")
    assert status == 0
    assert out.splitlines()[:2] == ["detector         tiny", 'class_names      ["dark", "light"]']
    stated = json.loads((tmp_path / "info.json").read_text())
    assert (stated["runtime"], stated["image_size"], stated["precision"]) == ("onnxruntime", [8, 8], "float32")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ("", 2, "the following arguments are required: COMMAND. See vovnet-runtime --help."),
        ("predikt", 2, "invalid choice: 'predikt'"),
        ("predict", 2, "the following arguments are required: MODEL"),
        ("predict tiny.onnx", 2, "name images, folders, glob patterns, videos or URLs to predict on"),
        ("predict tiny.onnx a.png --score-threshold 1.5", 2, "--score-threshold: expected a number from 0.0 to 1.0"),
        ("predict tiny.onnx a.png --score-threshold nan", 2, "--score-threshold: expected a number from 0.0 to 1.0"),
        ("predict tiny.onnx a.png --contours", 2, "--contours needs a detector with masks; tiny.onnx predicts boxes"),
        ("predict tiny.onnx a.png --top-k 0", 2, "--top-k: expected a number of at least 1, got 0"),
        ("predict tiny.onnx a.png --tiles 31", 2, "--tiles: expected a number of at least 32, got 31"),
        ("predict tiny.onnx a.png --tiles 32 --overlap 1", 2, "--overlap: expected a number from 0.0 to 0.9, got 1"),
        ("predict tiny.onnx a.png --overlap 0.5", 2, "overlap is that of tiles: give tiles as well"),
        ("predict tiny.onnx a.png --threads two", 2, "--threads: expected a number of at least 1, got two"),
        ("predict tiny.onnx a.png --classes drak", 2, "no class 'drak'; nearest is 'dark' of dark, light"),
        ("predict tiny.onnx a.png --json --no-draw", 2, "argument --json"),
        ("predict tiny.onnx a.png --limit image_pixel=3", 2, "no limit is called 'image_pixel', did you mean"),
        ("predict tiny.onnx a.png --runtime torch", 2, "--runtime: invalid choice: 'torch'"),
        ("predict tiny.onnx a.png --runtime mnn", 2, "tiny.onnx runs in onnxruntime or openvino, not in mnn"),
        ("predict tiny.onnx gone.png", 1, "'gone.png' does not exist"),
        ("predict tiny.onnx empty", 1, "folder empty holds no image or video"),
        ("predict tiny.onnx bad.png", 1, "bad.png is not an image in a known format"),
        ("predict tiny.onnx a.png --limit image_pixels=3", 1, "raise the limit with --limit image_pixels=N"),
        ("predict tiny.onnx a.png --output a.png", 1, "a.png is not a folder"),
        ("predict tiny.onnx a.png --json /dev/full", 1, "could not write /dev/full (No space left on device)"),
        ("predict gone.onnx a.png", 1, "gone.onnx does not exist: name a file or folder that vovnet export wrote"),
        ("predict empty a.png", 1, "empty is no detector that vovnet exported"),
        ("predict bad.png a.png", 1, "bad.png is no ONNX file"),
        ("predict cut.onnx a.png", 1, "cut.onnx is no ONNX file, or is damaged or cut short"),
        ("predict newer.onnx a.png", 1, "was exported by vovnet '9.0', newer than this one: update vovnet"),
        ("info foreign.onnx", 1, "foreign.onnx is no detector that vovnet exported"),
        ("serve tiny.onnx --port 65536", 2, "--port: expected a number from 0 to 65535"),
        ("serve tiny.onnx --host 203.0.113.1", 1, "cannot listen on 203.0.113.1 port 8000"),
        ("serve tiny.onnx --classes drak", 2, "no class 'drak'"),
        ("serve tiny.onnx --overlap 0.5", 2, "give tiles as well"),
    ],
)
def test_what_goes_wrong_is_one_sentence(run: Run, tmp_path: Path, arguments: str, status: int, sentence: str) -> None:
    if "/dev/full" in arguments and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    import onnx

    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_text("nonsense")
    content = (tmp_path / "tiny.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    write_tiny(tmp_path / "newer.onnx", format=99, vovnet="9.0")
    foreign = onnx.load_from_string(content)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    got, _, err = run(*arguments.split())
    assert sentence in err
    assert (got, err.count("\n"), err.startswith("vovnet: ")) == (status, 1, True)


def test_bad_images_leave_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("nonsense")
    status, out, err = run("predict", "tiny.onnx", "bad.png", "a.png", "--json", "-")
    assert status == 1
    assert json.loads(out)["images"] == 1
    assert json.loads(out)["failures"][0]["source"] == "bad.png"
    assert err.startswith("vovnet: bad.png is not an image")
    assert "1 of 2 sources could not be read or drawn" in err


def test_hostile_names(run: Run, tmp_path: Path) -> None:
    name = "=cmd\x1b[2J\n.png"
    (tmp_path / "a.png").rename(tmp_path / name)
    write_tiny(tmp_path / "tiny.onnx", class_names=["\x1b[31mred\n", "=1+1"])
    status, out, err = run("predict", "tiny.onnx", name, "gone\x1b[2J", "--score-threshold", "0.1")
    assert status == 1
    assert "\x1b" not in out + err
    csv = (tmp_path / "runs/predict/detections.csv").read_text()
    assert "'=1+1" in csv
    assert csv.splitlines()[1].startswith("\"'=cmd")


def test_a_missing_runtime_names_the_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("vovnet.errors.is_runner", lambda: True)
    status, _, err = run("predict", "tiny.onnx", "a.png")
    assert (status, err) == (1, "vovnet: tiny.onnx needs the package onnxruntime: pip install onnxruntime\n")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("vovnet.runtime.openvino.openvino_core", openvino_core.__wrapped__)  # another test may have one
    status, _, err = run("predict", "tiny.onnx", "a.png", "--runtime", "openvino")
    assert (status, err) == (1, 'vovnet: OpenVINO needs an extra: pip install "vovnet-runtime[openvino]"\n')


def test_debug_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vovnet-runtime", "info", "gone.onnx", "--debug"])
    with pytest.raises(FileNotFoundError, match="gone"):
        command.main()


def test_the_page_explains_every_option() -> None:
    page = (Path(__file__).parents[3] / "docs/runtime.md").read_text(encoding="utf-8")
    (choice,) = (item for item in command.make_parser()._actions if isinstance(item, argparse._SubParsersAction))
    options = {name for parser in choice.choices.values() for item in parser._actions for name in item.option_strings}
    assert {name for name in options - {"-h", "--help"} if f"`{name}`" not in page} == set()
    assert all(f"vovnet-runtime {name} " in page for name in choice.choices)


def test_only_what_is_needed_is_imported(run: Run, tmp_path: Path) -> None:
    """Each of these takes milliseconds of the half second from the start to the first boxes."""
    code = (
        "import sys\nfrom vovnet.runtime.command import main\n"
        "try:\n    main()\nfinally:\n    print('LOADED', *sys.modules)"
    )
    arguments = ["predict", "tiny.onnx", "a.png", "--no-draw", "--threads", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("LOADED ")[2].split())
    assert {"vovnet.runtime.detector", "onnxruntime"} <= loaded
    unwanted = {"torch", "yaml", "pydantic", "rich", "cyclopts", "hotcoco", "av", "onnx", "openvino", "MNN", "scipy"}
    unwanted |= {"PIL.ImageFont", "PIL.ImageDraw", "urllib.request", "http.client", "http.server", "ssl"}
    unwanted |= {"multiprocessing", "asyncio", "unittest", "PIL.TiffImagePlugin", "vovnet.media.video"}
    assert unwanted & loaded == set()
