"""The tutorial: its commands run one after the other on a few images, and print what the page says in shape."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from vovnet.cli import main as command_line
from vovnet.planning import plan as planning
from vovnet.planning import trial
from vovnet.runtime import command as runner

from ..small_voc import BCCD, write_small_voc

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"
TEST_IMAGE = "BloodImage_00385"
# In place of minutes of training, a few steps of the smallest detector.
TINY = ("model=ssdfpn320_vovnet19_tiny", "batch_size=2", "micro_batch_size=2", "schedule.iterations=2")
TINY += ("tensorboard=false", "workers=0")
ONLY_OF_A_LONGER_RUN = ("ssdfpn320_vovnet19_tiny", "step", "…")  # starts of lines


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial", PAGE.parents[1] / "benchmarks/tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shape(printed: str) -> set[str]:
    """The first two words of each line, without numbers, and what it writes."""
    lines = [re.sub(r"[\d.,%]+", "#", line) for line in printed.splitlines() if line.strip()]
    return {" ".join(line.split()[:2]) for line in lines if not line.lstrip("- ").startswith(ONLY_OF_A_LONGER_RUN)}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "MOST_S", 0.0)  # trials of two images
    monkeypatch.setattr(trial, "_PASSES", 1)
    write_small_voc(tmp_path / "samples/bccd", train=6, val=2)
    for name in (f"JPEGImages/{TEST_IMAGE}.jpg", f"Annotations/{TEST_IMAGE}.xml"):
        shutil.copy(BCCD / name, tmp_path / "samples/bccd" / name)
    lists = tmp_path / "samples/bccd/ImageSets/Main"
    (lists / "test.txt").write_text(f"{TEST_IMAGE}\n")
    (lists / "trainval.txt").write_text("".join((lists / f"{split}.txt").read_text() for split in ("train", "val")))

    def run_command(command: str) -> str:
        program, *arguments = command.split()
        if arguments[0] == "train":
            arguments = [*arguments[: arguments.index("--minutes")], *TINY]
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", [program, *arguments])
        with pytest.raises(SystemExit) as stop:
            (runner if program == "vovnet-runtime" else command_line).main()
        output = capsys.readouterr()
        assert stop.value.code == 0, output.err
        return output.err + output.out

    return run_command


def test_the_commands_print_what_the_page_says(run: Callable[[str], str]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("hotcoco")
    page = PAGE.read_text(encoding="utf-8")
    steps = list(script().STEP.finditer(page))
    assert [step["command"].split()[:2] for step in steps] == [
        ["vovnet", "data"], ["vovnet", "data"], ["vovnet", "train"],
        ["vovnet", "predict"], ["vovnet", "export"], ["vovnet-runtime", "predict"],
    ]  # fmt: skip
    for step in steps:
        printed = run(step["command"])
        assert shape(step["printed"])
        assert shape(step["printed"]) <= shape(printed), step["command"]
    # The files that the prose names are there, and the Python finds what the command found.
    for name in re.findall(r"`((?:found|exported|runs|there)/[\w./]+)`", page):
        assert Path(name).exists(), name
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})


def test_most_of_the_log_of_a_training_is_left_out() -> None:
    log = [f"step {number}" for number in range(9)]
    printed = "\n".join(["planned", *log, "done"]) + "\n"
    assert script().shortened(printed) == "planned\nstep 0\nstep 1\n…\nstep 7\nstep 8\ndone\n"
    assert script().shortened("one\n\n\n") == "one\n"


def test_the_output_of_a_command_is_put_below_it() -> None:
    page = "Text.\n\n```\nvovnet list\n```\n\n```text\nold\n```\n\n```\nother\n```\n"
    new = script().with_output(page, lambda command: f"{command} says\n")
    assert new == page.replace("old\n", "vovnet list says\n")
