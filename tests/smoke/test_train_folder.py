"""From a folder to a detector through the command line, with tiny trials and a training of a few steps."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.small_voc import write_small_voc
from tests.unit.data.small_datasets import cut_short, make_masked_coco, set_entry
from vovnet.cli import main as command_line
from vovnet.engine.config import load_config
from vovnet.planning import plan as planning
from vovnet.planning import trial
from vovnet.runtime import command as runner
from vovnet.weights.detector import load_weights

SMALL = "ssdfpn320_vovnet19_tiny"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "MOST_S", 0.0)  # trials of two images
    monkeypatch.setattr(trial, "_PASSES", 1)

    def run_command(*arguments):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["vovnet", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            command_line.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return run_command


@pytest.fixture
def folder(tmp_path):
    """Eight images in one folder with VOC annotations beside them: one split."""
    write_small_voc(tmp_path / "voc", train=6, val=2)
    root = tmp_path / "my cells"
    root.mkdir()
    for path in [*(tmp_path / "voc/JPEGImages").iterdir(), *(tmp_path / "voc/Annotations").iterdir()]:
        shutil.move(path, root / path.name)
    shutil.rmtree(tmp_path / "voc")
    return root


TINY = (f"model={SMALL}", "batch_size=2", "micro_batch_size=2", "schedule.iterations=2", "tensorboard=false")


def test_a_folder_becomes_a_detector(run, folder, tmp_path, monkeypatch):
    status, out, _ = run("train", "my cells", *TINY, "--json", "result.json")
    assert status == 0
    assert "format: VOC, because" in out
    assert re.search(r"- data: train 6, val 2 images, 3 classes", out)
    assert re.search(rf"- {SMALL} .*as asked for", out)
    assert re.search(r"this will take about \d+ s, until \d\d:\d\d", out)
    output = tmp_path / "runs/my cells"
    assert {path.name for path in output.iterdir()} >= {
        *("config.yaml", "splits.json", "best.safetensors", "last.pt", "record.json", "val", "log.jsonl"),
    }
    assert (output / "val/evaluation.html").is_file()
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["steps"], result["finished"]) == (2, True)
    assert 0 <= result["val"]["voc07_map"] <= 1
    assert "the result on val is optimistic, because val chose the weights and the score thresholds" in out
    assert load_weights(output).score_thresholds is not None

    # The config that was written is the one that was trained, and the next commands name what is there.
    config = load_config(output / "config.yaml")
    assert config.model_dump(mode="json") == json.loads((output / "record.json").read_text())["config"]
    commands = [shlex.split(command, comments=True) for command in out.partition("next:\n")[2].splitlines()]
    assert [command[:2] for command in commands] == [
        *(["vovnet", "evaluate"], ["vovnet", "predict"], ["vovnet", "export"], ["vovnet-runtime", "predict"]),
    ]
    pytest.importorskip("onnxruntime")
    for program, *arguments in commands[1:]:  # as they are printed
        if program == "vovnet-runtime":
            monkeypatch.setattr("sys.argv", [program, *arguments])
            with pytest.raises(SystemExit) as stop:
                runner.main()
            assert stop.value.code == 0
        else:
            assert run(*arguments)[0] == 0
    assert json.loads((tmp_path / "runs/predict/detections.json").read_text()) is not None

    # A second run destroys nothing, and a finished one has nothing left to do.
    status, _, err = run("train", "my cells", *TINY)
    assert status == 1
    assert "already holds a run; resume it with --resume or choose another output=FOLDER" in err
    status, out, _ = run("train", "my cells", "--resume")
    assert status == 0
    assert "trained 2 steps" in out
    status, _, err = run("train", "my cells", "--resume", "--minutes", "3")
    assert status == 2
    assert "leave out --minutes" in err
    status, _, err = run("train", "my cells", "--resume", "--plan")
    assert status == 2
    assert "give one of them" in err

    # Another dataset of the same name is not taken for the one of the run.
    shutil.copytree(folder, tmp_path / "others/my cells")
    status, _, err = run("train", "others/my cells", "--resume")
    assert status == 2
    assert "holds a run on runs/my cells/splits.json, not on others/my cells" in err


def test_a_plan_and_a_config_to_change(run, folder, tmp_path):
    status, out, _ = run("train", "data.root=my cells", "--plan", f"model={SMALL}", "--minutes", "5", "seed=3")
    assert status == 0
    assert out.startswith("# data: train 6, val 2 images")
    Path("plan.yaml").write_text(out)
    config = load_config("plan.yaml")
    assert (config.seed, config.model, config.default_boxes, config.data.val) == (3, SMALL, "data", "val")
    assert 2 < config.schedule.minutes < 5
    assert not (tmp_path / "runs/my cells/last.pt").exists()
    status, out, _ = run("init", "my cells", f"model={SMALL}", "schedule.epochs=7")
    assert status == 0
    Path("init.yaml").write_text(out)
    planned = load_config("init.yaml")
    assert planned.schedule.epochs == 7
    assert planned.model_copy(update={"schedule": None, "seed": 3}).augment == config.augment
    assert "# Images per optimizer step" in out


def test_faults_that_spoil_training_stop_it(run, folder):
    first = min(folder.glob("*.jpg"))
    first.write_bytes(first.read_bytes()[:2000])
    status, out, err = run("train", "my cells", *TINY)
    assert status == 1
    assert f"unreadable-image: all {first.name}" in out
    command = "vovnet data check 'my cells' --fix 'my cells-fixed'"
    assert f"write a copy without them with `{command}`, then `vovnet train 'my cells-fixed'`" in err
    run("data", "check", "my cells", "--fix", "my cells-fixed")
    status, out, _ = run("train", "my cells-fixed", *TINY, "--plan")
    assert status == 0
    assert "# data: train 6, val 1 images" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr=0.1"], "optimizer.learning_rate"),
        (["schedule.epoch=5"], "schedule.epochs"),
        (["schedule.minutes=long"], "schedule.minutes"),
        (["model=pelee304"], "without a config only these detectors are planned for"),
        (["device=abacus"], "device must be auto"),
        (["--from", "bccd", f"model={SMALL}"], "bccd has weights of dsod300_vovnet27_slim"),
        (["--from", "bccd", "weights=bccd"], "give one of them"),
        (["--minutes", "5", "schedule.epochs=3"], "two lengths of the run"),
    ],
)
def test_a_wrong_wish_is_found_before_the_data_is_checked(run, folder, arguments, message):
    min(folder.glob("*.jpg")).write_bytes(b"no image")
    status, out, err = run("train", "my cells", *arguments)
    assert status == 2
    assert message in err
    assert not out


@pytest.mark.parametrize("name", ["config.yaml", "splits.json"])
def test_files_of_others_stay_as_they_are(run, folder, tmp_path, name):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir()
    mine.write_text("a: b\n")
    status, _, err = run("train", "my cells", *TINY, "output=mine")
    assert status == 1
    assert f"mine/{name} is not of a planned run" in err
    assert mine.read_text() == "a: b\n"


def test_trained_weights_keep_their_default_boxes_only_if_these_suit(run, folder):
    for start in (["--from", "bccd"], ["weights=bccd"]):
        status, out, _ = run("train", "my cells", *start, "batch_size=2", "micro_batch_size=2", "--plan")
        assert status == 0
        Path("plan.yaml").write_text(out)
        config = load_config("plan.yaml")
        assert (config.weights, config.default_boxes, config.optimizer.learning_rate) == ("bccd", "data", 0.01)
        assert "# default boxes: those of the weights, unless boxes fitted" in out


def test_no_detector_is_that_fast(run, folder):
    status, _, err = run("train", "my cells", f"model={SMALL}", "--max-ms", "0.01")
    assert status == 2
    assert re.search(rf"no detector takes 0\.01 ms or less on this machine: the fastest is {SMALL}: [\d.]+ ms", err)


def test_time_that_is_too_short(run, folder):
    status, _, err = run("train", "my cells", f"model={SMALL}", "--minutes", "0.1")
    assert status == 2
    assert re.search(r"0\.1 minutes are too few: .* give --minutes \d+ or more", err)
    status, _, err = run("train", "my cells", *TINY, "--minutes", "9")
    assert status == 2
    assert "--minutes and schedule.iterations are two lengths of the run" in err


def test_options_of_folders_are_refused_for_configs(run):
    status, _, err = run("train", "voc_pelee304", "--plan")
    assert status == 2
    assert "--plan and --max-ms are for a folder of images" in err


@pytest.mark.parametrize("arguments", [(), ("batch_size=4", "micro_batch_size=2"), ("voc_pelee304", "seed=5")])
def test_config_show_prints_what_loads_as_the_same(run, arguments):
    status, out, _ = run("config", "show", *arguments)
    assert status == 0
    Path("shown.yaml").write_text(out)
    shown = load_config("shown.yaml")
    again = run("config", "show", "shown.yaml")[1]
    assert again == out
    for setting in arguments:
        key, equals, value = setting.partition("=")
        assert not equals or str(getattr(shown, key)) == value


def test_init_without_a_folder_has_the_defaults(run):
    status, out, _ = run("init")
    assert status == 0
    Path("init.yaml").write_text(out)
    Path("shown.yaml").write_text(run("config", "show")[1])
    assert load_config("init.yaml") == load_config("shown.yaml")


def test_init_takes_settings_in_any_place(run, folder):
    status, out, _ = run("init", "schedule.epochs=7")
    assert status == 0
    Path("init.yaml").write_text(out)
    assert load_config("init.yaml").schedule.epochs == 7
    status, out, _ = run("init", "data.root=my cells", f"model={SMALL}", "schedule.epochs=7")
    assert status == 0
    assert out.startswith("# data: train 6, val 2 images")
    status, _, err = run("init", "voc_pelee304")
    assert status == 2
    assert "`vovnet config show voc_pelee304`" in err


def test_a_run_from_within_the_dataset_stays_out_of_it(run, folder, tmp_path, monkeypatch):
    """The images of a YOLO folder with classes.txt are all those below it."""
    for path in folder.glob("*.xml"):
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.3\n")
        path.unlink()
    (folder / "classes.txt").write_text("cell\n")
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    status, out, err = run("train", ".", *TINY)
    assert status == 0, err
    assert (tmp_path / "runs/my cells/val/evaluation.html").is_file()
    assert sorted(folder.iterdir()) == before
    assert "vovnet evaluate '../runs/my cells' '../runs/my cells/splits.json'" in out


def test_the_copy_for_training_keeps_boxes_whose_masks_are_bad(run, tmp_path):
    root = make_masked_coco(tmp_path / "masked")
    set_entry("train", "annotations", 1, segmentation=[[1, 2]])(root)
    cut_short("images/train/0.png")(root)
    status, _, err = run("train", "masked", *TINY)
    assert status == 1
    command = re.search("`vovnet (data check [^`]+)`", err)[1]
    assert command == "data check masked --ignore-masks --fix masked-fixed"
    run(*shlex.split(command))
    status, out, _ = run("train", "masked-fixed", *TINY, "--plan")
    assert status == 0
    assert "# data: train 4, val 2 images" in out
