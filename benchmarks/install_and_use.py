"""Install the wheel and the sdist of dist/ for a Python, and use each as its users do: `make install-and-use`.

Each goes into an environment of its own, with the extras that the commands need. The commands follow one another, from
`--help` to the boxes that the runner finds with an exported file, which must be those of PyTorch. The exit status is 1
if one of them fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bare_environment import Environment, bring_torch
from extras import DATA, MEASURE, ROOT

EXTRAS = "eval,onnx"
IMAGES = tuple(str(DATA / f"JPEGImages/BloodImage_{number:05}.jpg") for number in (0, 2, 14, 17))
TRAINED, EXPORTED = "runs/bccd", "exported/bccd_small.onnx"


@dataclass(frozen=True)
class Step:
    """A command; shows: what it must print; writes: a file that it must leave."""

    arguments: tuple[str, ...]
    program: str = "vovnet"
    shows: str = ""
    writes: str | None = None


def steps(minutes: float) -> Iterator[Step]:
    """What a user does, in this order. minutes: of training."""
    yield Step(("--help",), shows="Usage: vovnet COMMAND")
    yield Step(("versions",), shows="torchvision")
    yield Step(("data", "check", str(DATA)), shows="0 problems")
    predict = ("predict", *IMAGES, "--device", "cpu", "--runtime", "torch", "--weights", "bccd_small")
    yield Step((*predict, "--output", "torch"), writes="torch/drawn/BloodImage_00000.jpg")
    yield Step((*MEASURE, "--json", "measured.json"), writes="measured.json")
    yield Step(("evaluate", "bccd_small", str(DATA), "--split", "val", "--workers", "0"), shows="AP50")
    train = ("train", str(DATA), "--minutes", str(minutes), f"output={TRAINED}", "workers=0")
    yield Step(train, shows="next:", writes=f"{TRAINED}/best.safetensors")
    yield Step(("predict", IMAGES[0], "--weights", TRAINED), writes="runs/predict/detections.json")
    yield Step(("export", "bccd_small", "--to", "onnx"), shows="passed", writes=EXPORTED)
    last = ("predict", EXPORTED, *IMAGES, "--output", "runner")
    yield Step(last, "vovnet-runtime", writes="runner/drawn/BloodImage_00000.jpg")


def problem_of(step: Step, environment: Environment) -> str | None:
    """What is wrong with a command, which it runs; None if nothing is."""
    done = environment.run(*step.arguments, program=step.program)
    if done.returncode:
        return f"status {done.returncode}: {done.stderr.strip()[-300:]}"
    if step.shows not in done.stdout:
        return f"does not print {step.shows!r}: {done.stdout.strip()[-300:]}"
    if step.writes and not (environment.work / step.writes).is_file():
        return f"does not write {step.writes}"
    return None


def difference(folder: Path) -> str | None:
    """How the boxes of the runner differ from those of PyTorch; None if they are the same."""
    boxes, others = (json.loads((folder / name / "detections.json").read_text()) for name in ("torch", "runner"))
    kinds = [[(box["image_id"], box["category_id"]) for box in found] for found in (boxes, others)]
    if not boxes or kinds[0] != kinds[1]:
        return f"PyTorch finds {len(boxes)} objects, the runner {len(others)}, or of other classes"
    for name, tolerance in (("score", 1e-3), ("bbox", 0.1)):
        apart = np.abs(np.array([box[name] for box in boxes]) - np.array([box[name] for box in others])).max()
        if apart > tolerance:
            return f"{name}: up to {apart:.2g} apart"
    return None


def attempt(environment: Environment, minutes: float) -> Iterator[str]:
    """The problems of all steps; prints each step."""
    for step in steps(minutes):
        started, command = time.perf_counter(), " ".join((step.program, *step.arguments))
        problem = problem_of(step, environment)
        print(f"  {time.perf_counter() - started:5.0f} s  {command.replace(f'{ROOT}/', '')}", flush=True)
        if problem is not None:
            yield f"{command}: {problem}"
            return  # the next ones need it
    if problem := difference(environment.work):
        yield problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="what makes the environments")
    parser.add_argument("--torch-from", type=Path, help="folder of packages whose PyTorch is linked, not fetched")
    parser.add_argument("--minutes", type=float, default=3, help="of training")
    options = parser.parse_args()
    (wheel,), (sdist,) = ROOT.glob("dist/vovnet-*.whl"), ROOT.glob("dist/vovnet-*.tar.gz")
    problems = []
    for file in (wheel, sdist):
        with tempfile.TemporaryDirectory() as temporary:
            environment = Environment(Path(temporary) / "environment", options.python)
            version = environment.run("--version").stdout.strip()
            print(f"{file.name}, {version}", flush=True)
            bring_torch(environment, options.torch_from)
            environment.install(f"{file}[{EXTRAS}]")
            found = [f"{file.name}, {version}: {problem}" for problem in attempt(environment, options.minutes)]
            print(*(found or ["  no problems"]), sep="\n", flush=True)
            problems += found
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
