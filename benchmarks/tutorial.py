"""Runs the commands of docs/tutorial.md in an empty folder and puts what they print into the page: `make tutorial`.

It takes a quarter of an hour. tests/smoke/test_tutorial.py runs the same commands on a few images and compares what
they print in shape.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/tutorial.md"
STEP = re.compile(r"```\n(?P<command>vovnet[^\n]*)\n```\n\n```text\n(?P<printed>.*?)```\n", re.DOTALL)
_STEPS_SHOWN = 2  # of the log of a training, at its start and at its end


def with_output(page: str, run: Callable[[str], str]) -> str:
    """The page with what each command prints below it. run: command → what it prints."""
    return STEP.sub(
        lambda step: f"```\n{step['command']}\n```\n\n```text\n{shortened(run(step['command']))}```\n", page
    )


def shortened(printed: str) -> str:
    """What a command prints, without most lines of the log of a training."""
    lines = printed.rstrip().splitlines()
    steps = [number for number, line in enumerate(lines) if line.startswith("step ")]
    left_out = set(steps[_STEPS_SHOWN:-_STEPS_SHOWN])
    first = min(left_out, default=None)
    shown = [
        ("…" if number == first else line.rstrip())
        for number, line in enumerate(lines)
        if number == first or number not in left_out
    ]
    return "\n".join(shown) + "\n"


def run_in(folder: Path) -> Callable[[str], str]:
    """Runs commands in the folder. They end with 0, or the page is wrong."""
    environment = os.environ | {"VOVNET_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}

    def run(command: str) -> str:
        print(command, file=sys.stderr, flush=True)
        program, *arguments = command.split()
        module = {"vovnet": "vovnet.cli.main", "vovnet-runtime": "vovnet.runtime.command"}[program]
        result = subprocess.run(
            [sys.executable, "-c", f"from {module} import main; main()", *arguments],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
        return result.stdout

    return run


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "samples").symlink_to(ROOT / "samples")
        PAGE.write_text(with_output(PAGE.read_text(encoding="utf-8"), run_in(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
