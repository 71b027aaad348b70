"""The command line as a user meets it: what it prints, what it writes, and one sentence for whatever goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet.cli.main import main
from vovnet.data.video import VideoWriter
from vovnet.engine.detector import Detector
from vovnet.masks import encode
from vovnet.media.video import video_info
from vovnet.models.detectors.ssd import SSD
from vovnet.names import shipped_weights
from vovnet.weights.detector import LoadedModel, ModelInfo, load_model, save_weights
from vovnet.weights.file import load_checkpoint

from ..unit.engine import masking

ROOT = Path(__file__).parents[2]
BCCD = ROOT / "samples" / "bccd"
NAMES = ("Platelets", "RBC", "WBC")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one sentence of a command that failed and printed nothing else, but for a training run's progress."""
        assert self.out == ""
        *progress, sentence = self.err.splitlines()
        assert all(" → " in line or " is read as " in line or line.startswith("step ") for line in progress), self.err
        assert sentence.startswith("vovnet: ")
        assert "Traceback" not in self.err
        return sentence.removeprefix("vovnet: ").strip()


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command line within this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vovnet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Result(int(stopped.value.code or 0), *capsys.readouterr())

    return call


def make_weights(path: Path, class_names: tuple[str, ...] = NAMES, model: str = "dsod300_vovnet27_slim") -> Path:
    """An untrained detector as a file that says it is `model`."""
    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, class_names, tuple(range(1, len(class_names) + 1)))
    state = info.build().state_dict()
    save_weights(path, state, ModelInfo(model, info.options, class_names, info.category_ids), {})
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights") / "cells.safetensors")


@pytest.fixture
def config(small_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(
        f"""
model: dsod300_vovnet27_slim
data: {{root: {small_voc}, val: null}}
schedule: {{iterations: 1}}
batch_size: 1
micro_batch_size: 1
device: cpu
workers: 0
tensorboard: false
output: {tmp_path / "run"}
"""
    )
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two good images and between them a broken one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("BloodImage_00001.jpg", "BloodImage_00004.jpg"):
        shutil.copy(BCCD / "JPEGImages" / name, folder)
    cut = (folder / "BloodImage_00001.jpg").read_bytes()[:3000]
    (folder / "BloodImage_00002.jpg").write_bytes(cut)
    return folder


def good_images(images: Path) -> list[Path]:
    return [images / "BloodImage_00001.jpg", images / "BloodImage_00004.jpg"]


# ---- the command line itself


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, vovnet.cli.main\n"
        "sys.argv = ['vovnet', *sys.argv[1:]]\n"
        "try: vovnet.cli.main.main()\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    for arguments in (["--help"], ["predict", "--help"], ["data", "check", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        *shown, loaded = done.stdout.splitlines()
        assert shown
        assert not {"torch", "torchvision", "numpy", "matplotlib", "pydantic"} & set(loaded.split())


def test_help_names_every_command_and_option(run: Run) -> None:
    overview = run("--help")
    assert overview.code == 0
    for command in ("predict", "train", "evaluate", "data", "list", "--debug"):
        assert command in overview.out
    assert "--json" in run("predict", "--help").out
    assert "--fix" in run("data", "check", "--help").out
    assert "--empty-classes" not in run("predict", "--help").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predct"], 'Did you mean "predict"?'),
        (["data", "chek"], 'Did you mean "check"?'),
        (["predict", "a.jpg", "--theads", "2"], "Did you mean --threads?"),
        (["predict", "a.jpg", "--top-k", "many"], 'unable to convert "many" into int'),
        (["predict", "a.jpg", "--top-k", "0"], "--top-k. Must be >= 1"),
        (["predict", "a.jpg", "--score-threshold", "1.5"], "--score-threshold. Must be <= 1"),
        (["evaluate", "w", "d", "--batch-size", "0"], "--batch-size. Must be >= 1"),
        (["evaluate", "w", "d", "--workers", "-1"], "--workers. Must be >= 0"),
        (["evaluate", "w"], "--root requires an argument"),
        (["list", "--json", "--help-me"], 'expected a file or "-", got --help-me'),
        (["list", "more"], "more"),
        (["predict"], "to predict on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_status_2(run: Run, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert says in re.sub(r'"(--[\w-]+)"', r"\1", result.complaint)  # which some versions of cyclopts quote


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train x --epochs 3", "; settings are written KEY=VALUE, did you mean 'schedule.epochs'?"),
        ("train x --lr=0.1", "; settings are written KEY=VALUE, did you mean 'optimizer.learning_rate'?"),
        ("train x --batch-size 8", "; settings are written KEY=VALUE: batch_size=…"),
        ("train x --augment.flip 0", "; settings are written KEY=VALUE: augment.flip=…"),
        ("train x --optimizer.lr 0.1", "; settings are written KEY=VALUE, did you mean 'optimizer.learning_rate'?"),
        ("train x --tiles 3", "; settings are written KEY=VALUE, did you mean 'data.tiles'?"),
        (
            "train x --data y",
            "; settings are written KEY=VALUE, such as data.root=…, data.train=…, data.val=…, data.more_train=…, "
            "data.cache=…, … and 1 more.",
        ),
        ("train x --nc 3", ": the classes come from the data."),
        ("train x --minute 3", ". Did you mean --minutes?"),
        ("train x --from-weights y", ". Did you mean --from?"),
        ("train x --budget 3", "."),
        ("train x --schedule.", "."),
        ("init --epochs 3", "; settings are written KEY=VALUE, did you mean 'schedule.epochs'?"),
        ("config show voc_pelee304 --seed 3", "; settings are written KEY=VALUE: seed=…"),
        ("study aggregation x --epochs 3", "; settings are written KEY=VALUE: epochs=…"),
        ("predict x --epochs 3", "."),
        ("predict x --conf 0.3", ". Did you mean --score-threshold?"),
        ("predict x --imgsz 320", "."),
        ("predict x --batch 8", ". Did you mean --batch-size?"),
        ("measure bccd --imgsz 320", ". Did you mean --input-size?"),
        ("export bccd --to onnx --batch 2", "."),
    ],
)
def test_an_unknown_option_is_status_2_and_says_what_may_be_meant(run: Run, words: str, says: str) -> None:
    result = run(*words.split())
    option = next(word for word in words.split()[1:] if word.startswith("--") and word != "--to").partition("=")[0]
    assert (result.code, result.complaint) == (2, f"Unknown option: {option}{says} See vovnet --help.")


@pytest.mark.parametrize(
    "words",
    [
        "train {}/cels",
        "train {}/my.yml",
        "config show {}/my.yml",
        "data check {}/cels",
        "data split {}/cels 0.8/0.2",
        "evaluate bccd {}/cels",
        "evaluate {}/wieghts.safetensors {}/cells",
        "predict {}/a.jpeg",
        "predict {}/a.jpg --weights {}/weihgts.safetensors",
        "predict {}/a.jpg --runtime onnxruntime --weights {}/b.onx",
        "reproduce table3 --records {}/cels",
    ],
)
def test_what_is_not_there_is_said_with_the_nearest_beside_it(run: Run, tmp_path: Path, words: str) -> None:
    folder = tmp_path / "mine"
    (folder / "cells").mkdir(parents=True)
    for name in ("a.jpg", "my.yaml", "weights.safetensors", "b.onnx"):
        (folder / name).touch()
    result = run(*words.format(folder, folder).split())
    assert result.code in (1, 2)
    names = r"(cells|my\.yaml|weights\.safetensors|a\.jpg|b\.onnx)"
    assert re.search(rf"did you mean '{folder.as_posix()}/{names}'\?", result.complaint)


def test_an_empty_name_is_not_the_current_folder(run: Run) -> None:
    """As that of an unset variable."""
    for name in ("", " ", "data.root="):
        result = run("train", name, "--plan")
        assert (result.code, "the name of the config or folder is empty" in result.complaint) == (2, True)


def test_list(run: Run, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.cli.list.shipped_weights", lambda: {"bccd": weights})
    result = run("list")
    assert result.code == 0
    for name in ("dsod300_vovnet27_slim", "dsod300_densenet67", "vovnet39", "bccd"):
        assert name in result.out
    assert json.loads(run("list", "--json", "-").out)["weights"] == ["bccd"]


@pytest.mark.skipif("bccd" not in shipped_weights(), reason="src/vovnet/weights/bccd.safetensors is not there yet")
def test_shipped_weights_are_the_default(run: Run, images: Path) -> None:
    assert json.loads(run("list", "--json=-").out)["weights"] == ["bccd", "bccd_small"]
    result = run("predict", *good_images(images), "--json=-")
    assert result.code == 0
    assert json.loads(result.out)["detections"]["WBC"] >= 1


# ---- what goes to stdout


@pytest.mark.parametrize("command", ["list", "check", "predict", "evaluate"])
def test_json_to_stdout_is_all_there_is(run: Run, weights: Path, small_voc: Path, images: Path, command: str) -> None:
    arguments = {
        "list": ["list"],
        "check": ["data", "check", small_voc],
        "predict": ["predict", *good_images(images), "--weights", weights, "--no-draw"],
        "evaluate": ["evaluate", weights, small_voc, "--split", "val", "--workers", 0, "--worst", 0],
    }[command]
    result = run(*arguments, "--json", "-")
    assert result.code == 0
    assert isinstance(json.loads(result.out), dict)
    assert len(result.err.splitlines()) > 3  # the tables
    with_file = run(*arguments, "--json", "new/result.json")
    assert with_file.code == 0
    assert with_file.err == ""
    assert len(with_file.out.splitlines()) > 3
    assert json.loads(Path("new/result.json").read_text()).keys() == json.loads(result.out).keys()


def test_names_are_printed_as_they_are_and_no_number_is_cut(run: Run, small_voc: Path) -> None:
    """A class may be called [red] or :smile:, and a terminal may be narrow."""
    for path in (small_voc / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("RBC", "[red]" + "x" * 100 + ":smile:"))
    result = run("data", "check", small_voc)
    assert result.code == 0
    assert "[red]" + "x" * 100 + ":smile:" in result.out
    assert "…" not in result.out


def test_a_terminal_without_the_letters(
    run_vovnet: Callable[..., subprocess.CompletedProcess[str]], small_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run_vovnet("data", "check", small_voc)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 problems" in done.stdout


# ---- predict


def test_predict_writes_pictures_videos_coco_and_csv(run: Run, weights: Path, images: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as clip:
        for shade in (60, 120, 180):
            clip.write(torch.full((3, 64, 96), shade, dtype=torch.uint8))
    sources = [good_images(images)[0], f"{images}/*4.jpg", tmp_path / "clip.mp4"]
    result = run("predict", *sources, "--weights", weights, "--output", "out", "--score-threshold", 0.2, "--top-k", 5)
    assert result.code == 0
    assert result.err == ""
    assert "results in out" in result.out

    drawn = Path("out/drawn")
    assert sorted(path.name for path in drawn.iterdir()) == ["BloodImage_00001.jpg", "BloodImage_00004.jpg", "clip.mp4"]
    with Image.open(drawn / "BloodImage_00001.jpg") as picture, Image.open(good_images(images)[0]) as original:
        assert picture.size == original.size
        assert picture.tobytes() != original.tobytes()
    assert video_info(drawn / "clip.mp4").frame_count == 3
    entries = json.loads(Path("out/detections.json").read_text())
    assert len(entries) == 5 * 5  # two images and three frames
    assert {entry["category_id"] for entry in entries} <= {1, 2, 3}
    assert entries[-1]["image_id"] == "clip_000002"
    assert len(Path("out/detections.csv").read_text().splitlines()) == 1 + 25


def test_predict_filters_by_class(run: Run, weights: Path, images: Path) -> None:
    arguments = ["predict", good_images(images)[0], "--weights", weights, "--score-threshold", 0.2, "--no-draw"]
    result = run(*arguments, "--classes", "RBC", "--classes", "WBC", "--json", "-")
    counts = json.loads(result.out)["detections"]
    assert counts["Platelets"] == 0
    assert counts["RBC"] > 0
    wrong = run(*arguments, "--classes", "RBCs")
    assert wrong.code == 2
    assert "no class 'RBCs'; nearest is 'RBC'" in wrong.complaint


def test_predict_reports_a_broken_image_and_goes_on(run: Run, weights: Path, images: Path) -> None:
    result = run("predict", images, "--weights", weights, "--json", "-")
    assert result.code == 1
    summary = json.loads(result.out)
    assert summary["images"] == 2
    assert [failure["source"] for failure in summary["failures"]] == [str(images / "BloodImage_00002.jpg")]
    assert "BloodImage_00002.jpg is damaged or cut short" in result.err
    assert "1 of 3 sources could not be read" in result.err
    assert "Traceback" not in result.err
    assert len(list(Path("runs/predict/drawn").iterdir())) == 2


def test_predict_without_images(run: Run, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("predict", "empty", "--weights", weights)
    assert result.code == 1
    assert "folder empty holds no image or video" in result.complaint
    assert "'gone.jpg' does not exist" in run("predict", "gone.jpg", "--weights", weights).complaint
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "bad", ["gone.jpg", "gone/*.jpg", "empty", "rtsp://camera/stream", "0", "http://127.0.0.1:9/a"]
)
def test_predict_skips_what_is_not_there(run: Run, weights: Path, images: Path, tmp_path: Path, bad: str) -> None:
    (tmp_path / "empty").mkdir()
    good = good_images(images)[:2]
    result = run("predict", good[0], bad, good[1], "--weights", weights, "--json", "summary.json")
    assert result.code == 1
    summary = json.loads(Path("summary.json").read_text())
    assert summary["images"] == 2
    assert [failure["source"] for failure in summary["failures"]] == [bad]
    assert summary["failures"][0]["reason"] in result.err
    assert "1 of 3 sources could not be read" in result.out


def test_predict_where_nothing_is_there_names_all_of_it(run: Run, weights: Path) -> None:
    result = run("predict", "gone.jpg", "lost.jpg", "--weights", weights)
    assert result.code == 1
    assert "'gone.jpg' does not exist" in result.complaint
    assert "'lost.jpg' does not exist" in result.complaint
    assert run("predict", "rtsp://camera/stream", "--weights", weights).code == 2
    assert not Path("runs").exists()


@pytest.mark.parametrize("output", ["runs/predict", "."])
def test_predict_does_not_detect_on_its_results(
    run: Run,
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    output: str,
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(good_images(images)[0], folder / "a.jpg")
    with VideoWriter(folder / "clip.mp4", 10) as clip:
        clip.write(torch.full((3, 64, 96), 60, dtype=torch.uint8))
    monkeypatch.chdir(folder)
    for _ in range(3):
        result = run("predict", ".", "--weights", weights, "--output", output, "--json", "-")
        assert (result.code, json.loads(result.out)["images"]) == (0, 2)
        assert sorted(path.name for path in Path(output, "drawn").iterdir()) == ["a.jpg", "clip.mp4"]
    assert caplog.messages == ["left out 2 of 4 files in .: they are results of vovnet"] * 2


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of weights that give masks."""
    model = masking.EllipseModel().eval()
    loaded = LoadedModel(model, ModelInfo("ellipses", {}, masking.NAMES, (3, 5)), {})
    monkeypatch.setattr("vovnet.engine.detector.load_weights", lambda source: loaded)
    return "ellipses"


def test_predict_writes_masks(run: Run, masked: str, images: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as clip:
        clip.write(torch.full((3, 64, 96), 60, dtype=torch.uint8))
    arguments = ["predict", good_images(images)[0], tmp_path / "clip.mp4", "--weights", masked, "--output", "out"]
    for contours, kind in ([], dict), (["--contours"], list):
        result = run(*arguments, *contours)
        assert (result.code, result.err) == (0, "")
        entries = json.loads(Path("out/detections.json").read_text())
        assert [type(entry["segmentation"]) for entry in entries] == [
            kind
        ] * 6  # three in the image, three in the frame
        assert len(list(Path("out/drawn").iterdir())) == 2


def test_contours_need_masks(run: Run, weights: Path, images: Path) -> None:
    result = run("predict", images, "--weights", weights, "--contours")
    assert result.code == 2
    assert "--contours needs a detector with masks" in result.complaint
    assert not Path("runs").exists()


# ---- evaluate


@pytest.fixture
def masked_data(tmp_path: Path) -> Path:
    """A COCO folder with two images of different sizes, whose objects fill the boxes that `masked` finds."""
    root = tmp_path / "shapes"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    listed, objects = [], []
    for image_id, (height, width) in enumerate([(80, 120), (120, 80)], 1):
        Image.new("RGB", (width, height), (90, 60, 30)).save(root / "images" / f"{image_id}.png")
        listed.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        size = (height, width)
        codes = encode(masking.rectangles(size)).to_coco()
        for box, label, code in zip(masking.boxes_of(size).tolist(), masking.LABELS.tolist(), codes, strict=True):
            x1, y1, x2, y2 = box
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image_id,
                    "category_id": (3, 5)[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "segmentation": code,
                }
            )
    categories = [{"id": 3, "name": "cell"}, {"id": 5, "name": "dust"}]
    content = {"images": listed, "annotations": objects, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def test_evaluate_compares_boxes_and_masks(run: Run, masked: str, masked_data: Path) -> None:
    result = run("evaluate", masked, masked_data, "--workers", 0, "--output", "out")
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    (mean,) = (line for line in lines if line[:2] == ["all", "(mean)"])
    assert mean[2:] == ["6", "1.000", "1.000", "1.000", "1.000", "0.600", "1.000"]
    # An ellipse covers π / 4 of its box, which is enough for six of the ten thresholds.
    boxes, masks = ([line for line in lines if line[:1] == [kind]] for kind in ("boxes", "masks"))
    assert boxes[0][1:4] == ["1.000", "1.000", "1.000"]
    assert masks[0][1:4] == ["0.600", "1.000", "1.000"]
    assert (len(boxes), len(masks)) == (2, 2)
    figures = json.loads(Path("out/evaluation.json").read_text())
    assert figures["coco_masks"]["AP"] == pytest.approx(0.6)
    assert all("segmentation" in entry for entry in json.loads(Path("out/detections.json").read_text()))


def test_evaluate_writes_figures_plots_and_the_worst_images(run: Run, weights: Path, small_voc: Path) -> None:
    result = run("evaluate", weights, small_voc, "--split", "val", "--workers", 0, "--worst", 2, "--output", "out")
    assert result.code == 0
    assert result.err == ""
    for text in (*NAMES, "VOC07 AP", "small", "AR100", "results in out"):
        assert text in result.out
    names = {path.name for path in Path("out").iterdir()}
    assert {"evaluation.json", "detections.json", "precision_recall.png", "confusion.png", "worst"} <= names
    for name in ("precision_recall.png", "confusion.png"):
        with Image.open(Path("out") / name) as picture:
            assert min(picture.size) > 300
    assert len(list(Path("out/worst").glob("*.jpg"))) == 2
    figures = json.loads(Path("out/evaluation.json").read_text())
    assert (figures["images"], figures["split"], len(figures["coco"])) == (3, "val", 12)
    assert len({entry["image_id"] for entry in json.loads(Path("out/detections.json").read_text())}) == 3


def test_evaluate_says_which_weights_of_a_run_it_takes(run: Run, weights: Path, small_voc: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        Path("cells").mkdir(exist_ok=True)
        shutil.copy(weights, Path("cells") / name)
    options = (small_voc, "--split", "val", "--workers", 0, "--worst", 0, "--output", "out")
    said = run("evaluate", "cells", *options).out
    assert (
        "weights: cells/best.safetensors, the best on val of the run; cells/last.safetensors has its last ones" in said
    )
    assert "weights:" not in run("evaluate", "cells/last.safetensors", *options).out


def test_evaluate_stores_thresholds_and_predict_uses_them(run: Run, weights: Path, small_voc: Path) -> None:
    own = Path(shutil.copy(weights, "own.safetensors"))
    options = (small_voc, "--split", "val", "--workers", 0, "--worst", 0, "--output", "out", "--store-thresholds")
    result = run("evaluate", own, *options)
    assert result.code == 0
    assert "score thresholds stored in own.safetensors" in result.out
    for text in ("best threshold", "AP50 lost to", "wrong place", "background"):
        assert text in result.out
    figures = json.loads(Path("out/evaluation.json").read_text())
    best = [entry["best_threshold"] for entry in figures["classes"].values()]
    stored = load_model(own).score_thresholds
    assert stored == tuple(entry["score_threshold"] if entry else 0.3 for entry in best)
    assert set(figures["analysis"]) == {"errors", "by_property", "calibration"}
    assert "<h2" in Path("out/evaluation.html").read_text(encoding="utf-8")
    image = next((small_voc / "JPEGImages").iterdir())
    said = run("predict", image, "--weights", own, "--output", "found", "--no-draw").out
    assert said.startswith(f"score thresholds, stored with the detector: {NAMES[0]} {stored[0]:g}, ")
    assert (
        "score thresholds"
        not in run("predict", image, "--weights", own, "--output", "found", "--score-threshold", 0.3).out
    )


def test_bundled_weights_are_never_changed(run: Run, small_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSD, "forward", lambda *_: pytest.fail("an hour of work"))
    result = run("evaluate", "bccd", small_voc, "--split", "val", "--store-thresholds")
    assert result.code == 2
    assert result.complaint.startswith("bccd comes with vovnet and is never changed: copy it first")


@pytest.mark.parametrize("option", [("--soft-nms",), ("--multi-scale", "voc")])
def test_thresholds_of_a_test_that_predictions_lack_are_not_stored(
    run: Run, weights: Path, small_voc: Path, option: tuple[str, ...]
) -> None:
    own = Path(shutil.copy(weights, "own.safetensors"))
    content = own.read_bytes()
    result = run("evaluate", own, small_voc, "--split", "val", "--store-thresholds", *option)
    assert result.code == 2
    assert f"predictions, which have no {option[0]}" in result.complaint
    assert own.read_bytes() == content


def test_evaluate_says_at_once_what_it_will_miss(
    run: Run, weights: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SSD, "forward", lambda *_: pytest.fail("an hour of work"))
    Path("file").touch()
    result = run("evaluate", weights, small_voc, "--split", "val", "--workers", 0, "--output", "file")
    assert result.code == 1
    assert result.complaint == "cannot write into file (File exists); choose another --output"

    monkeypatch.setitem(sys.modules, "hotcoco", None)
    result = run("evaluate", weights, small_voc, "--split", "val", "--workers", 0)
    assert result.code == 1
    assert "hotcoco" in result.complaint
    assert 'pip install "vovnet[eval]"' in result.complaint


# ---- data check


def test_check_finds_faults_and_writes_a_clean_copy(run: Run, small_voc: Path) -> None:
    good = run("data", "check", small_voc)
    assert good.code == 0
    assert "0 problems" in good.out
    assert "RBC" in good.out

    image = min((small_voc / "JPEGImages").iterdir())
    image.write_bytes(image.read_bytes()[:3000])
    annotation = max((small_voc / "Annotations").iterdir())
    annotation.write_text(annotation.read_text().replace("<xmin>", "<xmin>9", 1))
    before = {path: path.read_bytes() for path in small_voc.rglob("*") if path.is_file()}
    bad = run("data", "check", small_voc, "--fix", "clean", "--json", "found.json")
    assert bad.code == 1
    assert re.search(f"unreadable-image: (train|val) JPEGImages/{image.name}", bad.out)
    assert "2 problems" in bad.out
    assert json.loads(Path("found.json").read_text())["fault_count"] == 2
    assert before == {path: path.read_bytes() for path in small_voc.rglob("*") if path.is_file()}

    assert run("data", "check", "clean").code == 0
    assert len(list(Path("clean/JPEGImages").iterdir())) == 7
    again = run("data", "check", small_voc, "--fix", "clean")
    assert again.code == 1
    assert "name a new one for the copy" in again.err


# ---- bad input


@pytest.mark.parametrize("command", ["train", "evaluate", "check"])
def test_a_data_folder_that_is_missing_or_empty(run: Run, weights: Path, config: Path, command: str) -> None:
    Path("empty").mkdir()
    for folder, says in (("gone", "the data folder gone does not exist"), ("empty", "but it is empty")):
        arguments = {
            "train": ["train", config, f"data.root={folder}"],
            "evaluate": ["evaluate", weights, folder],
            "check": ["data", "check", folder],
        }[command]
        result = run(*arguments)
        assert result.code == 1
        assert says in result.complaint
        assert folder in result.complaint
    assert not Path("run").exists()


def test_data_of_other_classes(run: Run, tmp_path: Path, small_voc: Path) -> None:
    other = make_weights(tmp_path / "other.safetensors", ("Platelets", "Red", "WBC"))
    result = run("evaluate", other, small_voc, "--split", "val")
    assert result.code == 1
    assert "unknown class 'RBC'" in result.complaint
    assert ".xml" in result.complaint
    assert "use a model of these classes" in result.complaint


def test_a_split_that_is_not_there(run: Run, weights: Path, small_voc: Path) -> None:
    result = run("evaluate", weights, small_voc, "--split", "vol")
    assert result.code == 2
    assert "has no split 'vol', did you mean 'val'?" in result.complaint
    result = run("evaluate", weights, small_voc)
    assert result.code == 2
    assert result.complaint.endswith("has the splits train, val: give one of them as split")


def test_a_corrupt_checkpoint(run: Run, weights: Path, config: Path, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.safetensors"
    corrupt.write_bytes(weights.read_bytes()[:-1000])
    result = run("predict", "a.jpg", "--weights", corrupt)
    assert result.code == 1
    assert f"{corrupt} is damaged or is no safetensors file" in result.complaint
    assert "download or copy it again" in result.complaint

    assert run("train", config).code == 0
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    for arguments in (["evaluate", last, "data"], ["train", config, "resume=true"]):
        result = run(*arguments)
        assert result.code == 1
        assert f"{last} is not a readable checkpoint" in result.complaint


def test_a_checkpoint_of_another_model(run: Run, tmp_path: Path) -> None:
    other = make_weights(tmp_path / "other.safetensors", model="dsod300_vovnet27_slim_bottleneck")
    result = run("predict", "a.jpg", "--weights", other)
    assert result.code == 1
    assert f"{other} holds weights of another model" in result.complaint
    foreign = tmp_path / "foreign.safetensors"
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, foreign)
    assert f"{foreign} holds no vovnet detector" in run("predict", "a.jpg", "--weights", foreign).complaint


def test_weights_that_are_not_there(run: Run, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.weights.find.shipped_weights", lambda: {"bccd": weights})
    for command in (["predict", "a.jpg", "--weights", "bcd"], ["evaluate", "bcd", "data"]):
        result = run(*command)
        assert result.code == 1
        assert "did you mean 'bccd'?" in result.complaint


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("bath_size=2", "unknown key 'bath_size', did you mean 'batch_size'?"),
        ("optimizer.learning_rat=1", "unknown key 'optimizer.learning_rat', did you mean 'optimizer.learning_rate'?"),
        ("batch_size=two", "batch_size: input should be a valid integer, unable to parse string as an integer, got 't"),
        ("optimizer.momentum=2", "optimizer.momentum: input should be less than 1, got 2"),
        ("batch_size", "expected key=value, got 'batch_size'"),
    ],
)
def test_a_wrong_setting_is_status_2(run: Run, config: Path, setting: str, says: str) -> None:
    result = run("train", config, setting)
    assert result.code == 2
    assert says in result.complaint


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_broken_image_in_a_data_set(
    run_vovnet: Callable[..., subprocess.CompletedProcess[str]],
    weights: Path,
    config: Path,
    small_voc: Path,
    command: str,
) -> None:
    """One sentence although a loader process meets it, and no process is left waiting."""
    for path in (small_voc / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:3000])
    arguments = {
        "train": [config, "workers=1"],
        "evaluate": [weights, small_voc, "--split", "val", "--workers", 1],
    }[command]
    done = run_vovnet(command, *arguments, timeout=60)
    result = Result(done.returncode, done.stdout, done.stderr)
    assert result.code == 1
    assert "JPEGImages/BloodImage_" in result.complaint
    assert result.complaint.endswith("fetch it again or remove it")
    assert "worker" not in result.complaint


CPU_MEMORY = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "9000000000 bytes. Error code 12 (Cannot allocate memory)"
)
GPU_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nGPU 0 has a total capacity of…")


@pytest.mark.parametrize("error", [CPU_MEMORY, GPU_MEMORY, MemoryError()], ids=["cpu", "cuda", "python"])
@pytest.mark.parametrize(
    ("command", "size"), [("train", "micro_batch_size"), ("predict", "--batch-size"), ("evaluate", "--batch-size")]
)
def test_too_little_memory_says_which_size_to_lower(
    run: Run,
    weights: Path,
    config: Path,
    images: Path,
    small_voc: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    size: str,
    error: Exception,
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(SSD, "forward", full)
    arguments = {
        "train": [config],
        "predict": [*good_images(images), "--weights", weights],
        "evaluate": [weights, small_voc, "--split", "val", "--workers", 0],
    }[command]
    result = run(command, *arguments)
    assert result.code == 1
    assert result.complaint.startswith("out of memory")
    assert f"lower {size}" in result.complaint


def test_a_full_disk_spares_what_is_there(
    run: Run, weights: Path, config: Path, images: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = ["predict", *good_images(images), "--weights", weights, "--no-draw"]
    assert run(*predict).code == 0
    kept = Path("runs/predict/detections.json").read_bytes()
    checkpoint, fsync = Path("run/last.pt"), os.fsync

    def full(file: int) -> None:
        """The disk takes the checkpoint of the first step and no later one."""
        if not Path("run").exists() or (checkpoint.exists() and load_checkpoint(checkpoint)["step"] == 1):
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr("vovnet.files.os.fsync", full)
    says = "(No space left on device); free some disk space or choose another folder; what was there before is unharmed"
    result = run(*predict)
    assert result.code == 1
    assert says in result.complaint
    assert Path("runs/predict/detections.json").read_bytes() == kept

    result = run("evaluate", weights, small_voc, "--split", "val", "--workers", 0)
    assert result.code == 1
    assert says in result.err
    assert "all (mean)" in result.out  # the figures are not lost

    result = run("train", config, "schedule.iterations=3", "checkpoint_every=1")
    assert result.code == 1
    assert says in result.complaint
    assert load_checkpoint(checkpoint)["step"] == 1
    assert not list(Path().rglob("*.part*"))


def test_ctrl_c_keeps_what_is_done(run: Run, weights: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = Detector.forward, []

    def interrupted(self: Detector, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(Detector, "forward", interrupted)
    options = ["--batch-size", 1, "--score-threshold", 0.2, "--output", "out"]
    result = run("predict", *good_images(images), "--weights", weights, *options)
    assert result.code == 130
    assert result.complaint == "interrupted"
    entries = json.loads(Path("out/detections.json").read_text())
    assert {entry["image_id"] for entry in entries} == {"BloodImage_00001"}


def test_debug_shows_the_traceback(run_vovnet: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_vovnet("evaluate", "gone.safetensors", "data", "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "FileNotFoundError: gone.safetensors is neither" in done.stderr


def test_an_error_of_ours_asks_for_debug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.cli.list.shipped_weights", lambda: {}["a slip"])
    result = run("list")
    assert result.code == 1
    assert result.complaint == "KeyError: 'a slip' (run again with --debug for the traceback)"
    monkeypatch.setattr(sys, "argv", ["vovnet", "list", "--debug"])
    with pytest.raises(KeyError, match="a slip"):
        main()


def test_train_prints_where_its_results_are(run: Run, config: Path) -> None:
    result = run("train", config, "--json", "-")
    assert result.code == 0
    summary = json.loads(result.out)
    assert (summary["steps"], summary["finished"]) == (1, True)
    assert "finished after 1 steps; results in" in result.err
    assert load_model(Path(summary["output"]) / "last.pt").info.class_names == NAMES
    again = run("train", config)
    assert again.code == 1
    assert "resume it with resume=true or choose another output=FOLDER" in again.complaint


def test_measure(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Counts are exact; without a sensor there is a reason and no joules; a record of a run can be read again."""
    from vovnet.profiling import measure as comparison
    from vovnet.profiling.energy.sensors import NoSensor

    monkeypatch.setattr(comparison, "find_sensor", lambda device: NoSensor("there is no sensor in this test"))
    models = ("vovnet27_slim", "torchvision:squeezenet1_1")
    options = ("--input-size", 64, "--repetitions", 3, "--device", "cpu", "--layers", "--energy", "auto", "--no-memory")
    result = run("measure", *models, *options, "--batches", 1, 2, "--output", tmp_path / "report", "--json", "-")
    assert result.code == 0
    first, second = json.loads(result.out)["measurements"]
    assert first["cost"]["total"]["parameters"] == 3_525_736
    assert first["cost"]["total"]["flops"] == 2 * first["cost"]["total"]["multiply_adds"]
    assert first["ratio"]["median"] == 1
    assert second["latency"]["median_ms"] > 0
    assert sorted(second["batches"]) == ["1", "2"]
    assert first["energy_j_per_image"] is None
    assert "there is no sensor in this test" in result.err
    assert "stages.0.0.concat.conv" in result.err
    names = {"measurement.json", "measurement.csv", "layers.csv", "measurement.md", "measurement.html", "roofline.png"}
    assert names <= {path.name for path in (tmp_path / "report").iterdir()}
    again = run("measure", tmp_path / "report" / "measurement.json")
    assert again.code == 0
    assert "torchvision:squeezenet1_1" in again.out


def test_measure_names_the_cheapest_within_the_limits(run: Run, small_voc: Path, tmp_path: Path) -> None:
    data = ("--data", small_voc, "--split", "val", "--images", small_voc / "JPEGImages")
    found = run("measure", "bccd", *data, "--repetitions", 2, "--no-memory", "--min-ap", 0.5, "--json", tmp_path / "a")
    assert found.code == 0
    assert "bccd is the cheapest model with VOC07 at least 0.5 by time" in found.out
    assert "decode + NMS" in found.out
    content = json.loads((tmp_path / "a").read_text())
    assert content["pareto"]["choice"]["winner"] == "bccd"
    assert content["measurements"][0]["accuracy"]["figures"]["VOC07"] > 0.5
    (tmp_path / "a").rename(tmp_path / "a.json")
    none = run("measure", tmp_path / "a.json", "--min-ap", 0.999)
    assert none.code == 1
    assert "there is no model with VOC07 at least 0.999; bccd comes nearest" in none.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the models to measure"),
        (("vovnet_39",), "did you mean 'vovnet39'"),
        (("vovnet39", "--pareto"), "give --data, or a .json record"),
        (("vovnet39", "--energy", "meter"), "go together"),
        (("vovnet39", "--images", BCCD / "JPEGImages"), "images and data are for trained detectors"),
        (("vovnet39", "--input-size", "8"), "vovnet39 cannot run on an input of 1×3×8×8"),
        (("bccd", "--input-size", "64", "--data", BCCD, "--split", "test"), "at its own 300×300 pixels"),
        (("bccd", "--data", BCCD, "--split", "tset"), "tset"),
        (("vovnet39", "--by", "time"), "need --pareto"),
        (("vovnet39", "--max-p99-ms", "0"), "max-p99-ms"),
        (("vovnet39", "record.json", "--pareto"), "cannot be compared"),
        (("record.json", "--estimate"), "a record is shown as it is"),
        (("nosuch.module:build",), "set PYTHONPATH=."),
        (("vovnet39", "--precision", "tf32", "--device", "cpu"), "tf32"),
        (("missing.onnx",), "missing.onnx"),
        (("missing.json",), "missing.json"),
    ],
)
def test_measure_with_wrong_arguments(run: Run, arguments: tuple[object, ...], message: str) -> None:
    result = run("measure", *arguments)
    assert result.code in (1, 2)
    assert message in result.complaint
    assert "pip install" not in result.complaint


def test_weights_of_others_are_imported(run: Run, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("ese_vovnet19b_slim_dw").state_dict(), tmp_path / "theirs.pth")
    result = run("weights", "import", tmp_path / "theirs.pth", "--output", tmp_path / "ours.safetensors", "--json", "-")
    assert result.code == 0
    found = json.loads(result.out)
    assert (found["scheme"], found["model"], found["options"]["ese"]) == ("timm", "vovnet19_slim_dw_ese", "last")
    assert "a run starts from them with the setting backbone_weights=" in result.err
    assert (tmp_path / "ours.safetensors").is_file()
    again = ("weights", "import", tmp_path / "theirs.pth", "--output", tmp_path / "ours.safetensors")
    refused = run(*again)
    assert refused.code == 1
    assert "exists already; choose another output, or overwrite it with --overwrite" in refused.complaint
    assert run(*again, "--overwrite").code == 0
    broken = timm.create_model("ese_vovnet19b_slim_dw").state_dict()
    broken.pop("stem.0.conv.weight")
    torch.save(broken, tmp_path / "broken.pth")
    refused = run("weights", "import", tmp_path / "broken.pth", "--output", tmp_path / "none.safetensors")
    assert refused.code == 1
    assert "stem.0.conv.weight" in refused.complaint
    assert not (tmp_path / "none.safetensors").exists()


# ---- studies


def test_the_study_of_connections(run_vovnet, tmp_path) -> None:
    """One step of one network on three grey images a split."""
    grey = io.BytesIO()
    Image.new("RGB", (32, 32), (90, 90, 90)).save(grey, "JPEG")
    data = np.frombuffer(grey.getvalue() * 3, np.uint8)
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", data=data, offsets=np.arange(4) * (len(data) // 3), labels=np.arange(3))
    settings = [f"data={tmp_path}", "epochs=1", "batch_size=3", "networks=[osa_5_43]", "seeds=[0]", "output=out"]
    config = ROOT / "configs/cifar10_aggregation.yaml"
    done = run_vovnet("study", "aggregation", config, *settings, "--json", "-", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["test_images"] == 3
    assert "OSA (5/43)" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "aggregation.json", "figure2.png", "figure2_colour_blind_safe.png", "osa_5_43_0"
    }  # fmt: skip
    wrong = run_vovnet("study", "aggregation", config, *settings, "epochs=2")
    assert (wrong.returncode, "other settings (epochs)" in wrong.stderr) == (2, True)


# ---- RefineDet's tests


@pytest.fixture
def narrow(small_voc, tmp_path):
    """What evaluates a narrow RefineDet with random weights on one image."""
    lists = small_voc / "ImageSets/Main/val.txt"
    lists.write_text(lists.read_text().split()[0] + "\n")
    info = ModelInfo("refinedet320_vovnet27_slim", {"width": 8}, NAMES, (1, 2, 3))
    save_weights(tmp_path / "narrow.safetensors", info.build().state_dict(), info, {})
    return ("evaluate", "narrow.safetensors", small_voc, "--split", "val", "--workers", "0", "--json", "-")


def test_soft_nms(run_vovnet, narrow) -> None:
    soft = json.loads(run_vovnet(*narrow, "--soft-nms", timeout=300).stdout)
    assert (soft["soft_nms"], soft["multi_scale"]) == (True, None)
    both = run_vovnet(*narrow, "--multi-scale", "coco", "--soft-nms")
    assert (both.returncode, "choose one of them" in both.stderr) == (2, True)
    ssd = run_vovnet(narrow[0], "bccd", *narrow[2:], "--multi-scale", "voc")
    assert (ssd.returncode, "as a RefineDet does; SSD takes only 300×300" in ssd.stderr) == (2, True)


@pytest.mark.slow
def test_many_scales(run_vovnet, narrow) -> None:
    many = json.loads(run_vovnet(*narrow, "--multi-scale", "voc", timeout=600).stdout)
    assert (many["soft_nms"], many["multi_scale"]["soft_vote"]) == (False, False)
    assert len(many["multi_scale"]["scales"]) == 8
