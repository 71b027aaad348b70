"""Every command that is printed as the next one runs as it is printed, in a shell, with names that need quotes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import vovnet.engine.train
from tests.small_voc import write_small_voc
from vovnet.cli import main as command_line
from vovnet.names import sample_images, shipped_weights
from vovnet.planning import plan as planning
from vovnet.planning import trial
from vovnet.runtime import command as runner
from vovnet.weights import importing

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the lines are quoted for the shells of another system")
NAME = "my  cells' data"
TINY = ("model=ssdfpn320_vovnet19_tiny", "batch_size=2", "micro_batch_size=2", "schedule.iterations=2")
TINY += ("tensorboard=false", "workers=0")
PRINTED = re.compile(
    r"next: (vovnet.*)|  (vovnet\S* .*)  # .*|.*to go on: (vovnet.*)|.*make one with (vovnet.*)|.*`(vovnet .*?)`"
)
Run = Callable[..., tuple[int, str]]


def next_commands(printed: str) -> list[str]:
    found = [PRINTED.match(line) for line in printed.splitlines()]
    return [next(filter(None, match.groups())) for match in found if match]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a line as a shell takes it apart, or words, in an empty folder: status, and all that was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(planning, "MOST_S", 0.0)  # trials of two images
    monkeypatch.setattr(trial, "_PASSES", 1)

    def run_command(command: str | list[str], *more: str) -> tuple[int, str]:
        program, *arguments = shlex.split(command) if isinstance(command, str) else command
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", [program, *arguments, *more])
        with pytest.raises(SystemExit) as stop:
            {"vovnet": command_line, "vovnet-runtime": runner}[program].main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out + output.err

    return run_command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_small_voc(tmp_path / NAME, train=6, val=2)
    return Path(NAME)


def test_from_a_split_file_to_the_boxes_of_an_exported_file(run: Run, data: Path) -> None:
    pytest.importorskip("onnxruntime")
    status, printed = run(["vovnet", "data", "split", str(data), "0.75/0.25"])
    assert status == 0
    (train,) = next_commands(printed)
    status, printed = run(train, *TINY)
    assert status == 0, printed
    repeat, *commands = next_commands(printed)
    assert [shlex.split(command)[1] for command in commands] == ["evaluate", "predict", "export", "predict"]
    for command in commands:
        status, printed = run(command)
        assert status == 0, printed
        for after in next_commands(printed):
            assert run(after)[0] == 0, after
    assert run(repeat)[0] == 0
    # A runtime without an export: the error names the command that makes one.
    (folder,) = Path("runs").glob("*-again")
    shutil.rmtree("cache")
    predict = ["vovnet", "predict", str(sample_images()[0]), "--weights", str(folder), "--runtime", "onnxruntime"]
    status, printed = run(predict)
    assert status == 2
    (export,) = next_commands(printed)
    assert run(export)[0] == 0
    assert run(predict)[0] == 0


def test_from_a_dataset_with_a_fault_to_its_plan(run: Run, data: Path) -> None:
    assert next_commands(run(["vovnet", "data", "check", str(data)])[1]) == [
        f"vovnet train {shlex.quote(NAME)}".replace("  ", " '' ")
    ]
    image = min((data / "JPEGImages").iterdir())
    image.write_bytes(image.read_bytes()[:2000])
    status, printed = run(
        ["vovnet", "data", "check", str(data), "--ignore-masks", "--classes", "RBC", "--classes", "WBC"]
    )
    assert status == 1
    (fix,) = next_commands(printed)
    assert "--ignore-masks --classes=RBC --classes=WBC --fix" in fix
    status, printed = run(fix)
    (train,) = next_commands(printed)
    status, printed = run(train, *TINY, "--plan")
    assert status == 0, printed
    # The same from `vovnet train`, which stops for it.
    status, printed = run(["vovnet", "train", str(data), *TINY])
    assert status == 1
    fix, train = re.findall("`(.*?)`", printed)
    run(fix)
    assert run(train, *TINY, "--plan")[0] == 0


def test_a_fault_that_no_copy_mends_has_no_command(run: Run, data: Path) -> None:
    for path in (data / "Annotations").iterdir():
        path.write_text("<annotation></annotation>", encoding="utf-8")
    _, printed = run(["vovnet", "data", "check", str(data)])
    assert not [command for command in next_commands(printed) if "--fix" not in command], printed


def test_from_one_format_to_another(run: Run, data: Path) -> None:
    status, printed = run(["vovnet", "data", "convert", str(data), f"{NAME} as COCO", "--to", "coco"])
    assert status == 0
    (train,) = next_commands(printed)
    assert run(train, *TINY, "--plan")[0] == 0


def test_a_run_that_was_stopped_goes_on(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, stopped = vovnet.engine.train.train, SimpleNamespace(finished=False, steps=1, best=None, last=None)
    for settings in ([], [f"output=runs/{NAME}-2"]):
        with monkeypatch.context() as patch:
            patch.setattr(vovnet.engine.train, "train", lambda config: stopped)
            status, printed = run(["vovnet", "train", str(data), *TINY, *settings])
        assert status == 130
        again = next_commands(printed)[-1]
        assert run(again, *TINY, "--plan")[0] == 2  # it resumes
        shutil.rmtree("runs")
        assert run(again, *TINY)[0] == 0, again
    config = Path("my  config.yaml")
    shutil.copy(next(Path("runs").glob("*/config.yaml")), config)
    with monkeypatch.context() as patch:
        patch.setattr(
            vovnet.engine.train, "train", lambda config: SimpleNamespace(**vars(stopped), output=config.output)
        )
        status, printed = run(["vovnet", "train", str(config), "output=other runs/1", "--minutes", "0.01"])
    assert status == 130
    (again,) = next_commands(printed)
    assert shlex.split(again)[-1] == "resume=true"
    status, printed = run(again)
    assert status == 0, printed
    assert vovnet.engine.train.train is train


def test_imported_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(source: str, output: Path, **options: object) -> importing.ImportReport:
        output.parent.mkdir(exist_ok=True)
        shutil.copy(shipped_weights()["bccd"], output)
        return importing.ImportReport(
            kind=kind, source=source, source_sha256="0", scheme="detectron2", model="vovnet39", options={},
            norm="batch", pixels={}, tensors=1, parameters=1, num_classes=3, set_aside={}, output=str(output),
        )  # fmt: skip

    monkeypatch.setattr(importing, "import_weights", convert)
    kind = "detector"
    status, printed = run(["vovnet", "weights", "import", "https://host/a/my_detector.pth.tar?download=1"])
    assert status == 0
    (predict,) = next_commands(printed)
    assert shlex.split(predict)[-1] == "weights/my_detector.safetensors"
    assert run(predict)[0] == 0
    kind = "backbone"
    _, printed = run(
        ["vovnet", "weights", "import", "timm/ese_vovnet39b.ra_in1k", "--output", "weights/my net.safetensors"]
    )
    assert "a run starts from them with the setting backbone_weights='weights/my net.safetensors'" in printed


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("vovnet39_statedict_norm.pth", "vovnet39_statedict_norm"),
        ("a/b.pth.tar", "b"),
        ("timm/ese_vovnet39b.ra_in1k", "ese_vovnet39b.ra_in1k"),
        ("hf:me/cells@v1", "cells_v1"),
        ("https://host/x/w%20x.safetensors?a=b#c", "w_20x"),
        ("...", "..."),
        ("/", "imported"),
    ],
)
def test_the_file_of_imported_weights_is_called_as_their_source(source: str, name: str) -> None:
    assert importing.default_output(source) == Path("weights") / f"{name}.safetensors"


def test_no_command_is_printed_with_a_placeholder() -> None:
    """A word in capitals that the shell would take as a name."""
    folder = Path(command_line.__file__).parent
    printed = [
        line
        for path in folder.glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"say\(|command\(|f\"vovnet|raise |complain\(", line)
    ]
    assert len(printed) > 100
    wrong = [
        line for line in printed if re.search(r"vovnet(-runtime)? [^\"]*\b(IMAGE|SOURCE|FOLDER|WEIGHTS|FILE)\b", line)
    ]
    assert wrong == []
