"""What `make install-and-use` takes for a fault of an installed vovnet. It is not run here: it installs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bare_environment import Environment
from install_and_use import Step, difference, problem_of, steps

from vovnet.cli import main as command
from vovnet.runtime.command import make_parser

SAYS = "import sys; print('0 problems'); open('written', 'w').close(); sys.exit(int(sys.argv[1]))"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One that has Python alone."""
    folder = tmp_path / "environment"
    folder.mkdir()
    made = Environment(folder)
    made.programs.mkdir()
    (made.programs / "python").symlink_to(sys.executable)
    return made


def boxes(folder: Path, name: str, *, score: float = 0.9, kind: int = 1, left: float = 10.0) -> None:
    (folder / name).mkdir(exist_ok=True)
    box = {"image_id": "a", "category_id": kind, "bbox": [left, 20.0, 30.0, 40.0], "score": score}
    (folder / name / "detections.json").write_text(json.dumps([box]), encoding="utf-8")


@pytest.mark.parametrize("step", [*steps(1)], ids=lambda step: step.arguments[0])
def test_each_command_exists_with_its_options(step: Step) -> None:
    if step.program == "vovnet":
        command.app.parse_args(step.arguments, exit_on_error=False, print_error=False)
    else:
        make_parser().parse_args(step.arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="links to Python")
@pytest.mark.parametrize(
    ("status", "shows", "writes", "problem"),
    [
        ("0", "0 problems", "written", None),
        ("3", "0 problems", "written", "status 3"),
        ("0", "next:", "written", "does not print 'next:'"),
        ("0", "0 problems", "drawn.jpg", "does not write drawn.jpg"),
    ],
)
def test_a_fault_is_named(environment: Environment, status: str, shows: str, writes: str, problem: str | None) -> None:
    found = problem_of(Step(("-c", SAYS, status), "python", shows, writes), environment)
    assert (found or "").partition(":")[0] == (problem or "").partition(":")[0]


def test_a_python_that_does_not_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no-python makes no virtual environment \(.*\): name a Python that starts"):
        Environment(tmp_path / "environment", "no-python")


@pytest.mark.skipif(sys.platform == "win32", reason="links to Python")
def test_a_command_that_does_not_end_is_a_fault(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bare_environment.TIMEOUT_S", 0.2)
    step = Step(("-c", "import time; time.sleep(60)"), "python")
    assert problem_of(step, environment) == "status 124: stopped after 0.2 s"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, None),
        ({"score": 0.902}, "score: up to 0.002 apart"),
        ({"left": 10.5}, "bbox: up to 0.5 apart"),
        ({"kind": 2}, "PyTorch finds 1 objects, the runner 1, or of other classes"),
    ],
)
def test_boxes_of_the_runner_are_compared(tmp_path: Path, other: dict[str, float], says: str | None) -> None:
    boxes(tmp_path, "torch")
    boxes(tmp_path, "runner", **other)
    assert difference(tmp_path) == says
