"""`vovnet train DIR`: from a dataset to a trained and evaluated detector, without a config."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.output import Output, show_progress
from vovnet.errors import UsageError, counted
from vovnet.printing import line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vovnet.engine.config import TrainConfig
    from vovnet.planning.plan import Plan, Request
    from vovnet.planning.soundness import Soundness

CONFIG = "config.yaml"
_FILES_OF_RUN = ("last.pt", "best.safetensors", "last.safetensors")
_MOST_LINES = 20
_FOLDERS_OF_IMAGES = ("images", "data", "dataset")  # are no names


class UnsoundDataError(ValueError):
    """A dataset that must be mended before it can be trained on; what is wrong has been printed."""


def output_of(root: Path, settings: tuple[str, ...]) -> Path:
    """The run folder that the settings name, else runs/ with the name of the dataset."""
    named = [setting.removeprefix("output=") for setting in settings if setting.startswith("output=")]
    if named:
        return Path(named[-1])
    folder = (root.parent if root.is_file() else root).resolve()
    name = folder.parent.name if folder.name.lower() in _FOLDERS_OF_IMAGES else folder.name
    return Path("runs") / (name or "mine")


def refuse_another_run(output: Path) -> None:
    """FileExistsError if a run is in the folder: it is found before the data is checked."""
    if any((output / name).exists() for name in _FILES_OF_RUN):
        resume = "resume it with --resume or " if (output / "last.pt").exists() else ""
        raise FileExistsError(f"{output} already holds a run; {resume}choose another output=FOLDER")


def make_plan(request: Request, out: Output) -> Plan:
    """Check the data and plan a run; print what was found and measured.

    Raises UnsoundDataError if the data must be mended first.
    """
    from vovnet.data.formats import recognise
    from vovnet.planning.plan import make_plan as make
    from vovnet.planning.plan import wanted_splits
    from vovnet.planning.soundness import check_soundness, most_decoded

    refuse_another_run(request.output)
    out.say(f"format: {recognise(request.root).sentence()}")
    splits, no_val = wanted_splits(request)
    with show_progress() as progress:
        task = progress.add_task("checking images", total=None)
        soundness = check_soundness(
            request.root,
            splits.names,
            most_images=most_decoded(request.minutes),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if not soundness.is_sound:
        _print_problems(soundness, out)
        raise UnsoundDataError(_remedy(soundness, request.root))
    for sentence in soundness.sentences():
        out.say(sentence)
    request = replace(request, compare_images=not soundness.report.headers_only)
    return make(request, splits, no_val=no_val, say=lambda text: print(line(text, 300), file=sys.stderr, flush=True))


def _print_plan(plan: Plan, out: Output) -> None:
    for reason in plan.reasons:
        out.say(f"- {reason}")
    ends = datetime.now() + timedelta(seconds=plan.seconds)
    out.say(f"this will take about {_duration(plan.seconds)}, until {ends:%H:%M}")


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _print_problems(soundness: Soundness, out: Output) -> None:
    for problem in soundness.spoiling[:_MOST_LINES]:
        where = " ".join(line(part, 300) for part in (problem.split, problem.image) if part)
        out.say(f"{problem.kind}: {where}: {line(problem.detail, 600)}")
    if len(soundness.spoiling) > _MOST_LINES:
        out.say(f"… and {len(soundness.spoiling) - _MOST_LINES} more; `vovnet data check` lists all")
    if not soundness.spoiling:
        out.say(soundness.why_unreadable)


def _remedy(soundness: Soundness, root: Path) -> str:
    from vovnet.data.check import KINDS
    from vovnet.data.split_file import is_split_file, read_split_file

    source = read_split_file(root).root if is_split_file(root) else root
    folder = source.parent if source.is_file() else source
    kinds = {problem.kind for problem in soundness.spoiling}
    by_hand = {kind for kind in kinds if KINDS[kind][1].startswith(("nothing", "left as it is"))}
    start = f"{counted(len(soundness.spoiling), 'problem')} of {root} would spoil the training"
    if not kinds - by_hand:
        return (
            f"{start}: mend the data by hand ({', '.join(sorted(by_hand))}: {KINDS[min(by_hand)][1]})"
            if kinds
            else start
        )
    # A bad mask would cost an object whose box is good.
    options = "--ignore-masks " if soundness.has_masks else ""
    new = next(path for number in range(1, 1000) if not (path := _sibling(folder, number)).exists())
    mended = new / source.name if source.is_file() else new
    more = f"; --fix cannot mend {', '.join(sorted(by_hand))}" if by_hand else ""
    check = f"vovnet data check {_word(source)} {options}--fix {_word(new)}"
    return f"{start}: write a copy without them with `{check}`, then `vovnet train {_word(mended)}`{more}"


def _sibling(folder: Path, number: int) -> Path:
    suffix = "-fixed" if number == 1 else f"-fixed-{number}"
    return Path(f"{folder if folder.name else folder.resolve()}{suffix}")


def _word(path: object) -> str:
    return shlex.quote(str(path))


def train_dataset(request: Request, out: Output, *, resume: bool, plan_only: bool) -> int:
    """Plan, train and evaluate; the exit status."""
    from vovnet.engine.config import load_config
    from vovnet.engine.config_text import config_yaml
    from vovnet.engine.train import train
    from vovnet.files import write_text

    output = request.output
    resumes = resume and (output / "last.pt").exists() and (output / CONFIG).is_file()
    if resumes:
        if request.minutes is not None or request.max_ms is not None or request.weights is not None:
            raise UsageError("--resume goes on with the plan of the run: leave out --minutes, --max-ms and --from")
        config = load_config(output / CONFIG, [*request.settings, "resume=true"])
    else:
        plan = make_plan(request, Output("-") if plan_only else out)
        config, text = plan.config, f"{reasons_as_comments(plan)}{config_yaml(plan.config)}"
        if plan_only:
            if out.json_file != "-":
                print(text, end="")
            out.json({"config": config.model_dump(mode="json"), "reasons": plan.reasons, "seconds": plan.seconds})
            return 0
        _print_plan(plan, out)
        write_text(output / CONFIG, text)
        again = f"vovnet train {_word(output / CONFIG)}"
        out.say(f"the config is {output / CONFIG}; `{again} output=FOLDER` repeats the run")
    result = train(config)
    if not result.finished:
        out.say(f"stopped after {counted(result.steps, 'step')}; go on with --resume; results in {output}")
        return 130
    out.say(f"trained {counted(result.steps, 'step')} in {_duration(time.monotonic() - request.started)}")
    scores = _evaluate(config, request, out)
    out.say("next:")
    for command, purpose in _next_commands(config):
        out.say(f"  {command}  # {purpose}")
    out.json(
        {
            "output": str(output),
            "steps": result.steps,
            "best": result.best,
            "last": result.last,
            "finished": True,
            **scores,
        }
    )
    return 0


def reasons_as_comments(plan: Plan) -> str:
    """The first lines of the YAML of a plan."""
    text = f"This takes about {_duration(plan.seconds)} on the machine that it was planned on."
    return "".join(f"# {line(reason, 500)}\n" for reason in (*plan.reasons, text))


def _evaluate(config: TrainConfig, request: Request, out: Output) -> dict[str, object]:
    """Evaluate the best weights on val, and once on test; write the reports and store the score thresholds."""
    from importlib.util import find_spec

    from vovnet.data.formats import open_dataset, require_objects
    from vovnet.engine.detector import load
    from vovnet.engine.evaluate import evaluate
    from vovnet.errors import install_extra
    from vovnet.planning.splits import find_splits
    from vovnet.weights.detector import store_thresholds

    splits = find_splits(config.data.root)
    named = [("val", config.data.val), ("test", splits.test)]
    named = [(role, split) for role, split in named if split is not None and split != config.data.train]
    if not named:
        return {}
    if find_spec("hotcoco") is None or find_spec("matplotlib") is None:
        out.say(f"no evaluation: it needs an extra ({install_extra('eval')})")
        return {}
    from vovnet.report.evaluation import write_evaluation

    weights = config.output / "best.safetensors"
    scores: dict[str, object] = {}
    for role, split in dict(named).items():
        detector = load(weights, config.device)
        dataset = open_dataset(config.data.root, split, class_names=detector.class_names)
        require_objects(dataset)
        workers = config.workers if isinstance(config.workers, int) else 2
        with show_progress() as progress:
            task = progress.add_task(f"evaluating {role}", total=len(dataset))
            evaluation = evaluate(
                detector,
                dataset,
                batch_size=config.micro_batch_size,
                workers=workers,
                tiling=None if config.data.tiles is None else config.data.tiles.tiling,
                on_image=partial(_show, progress, task),
            )
        if role == "val":
            store_thresholds(weights, evaluation.score_thresholds)
        folder = config.output / role
        write_evaluation(evaluation, folder)
        voc, coco = evaluation.voc.mean_ap11, evaluation.coco.figures["AP"]
        scores[role] = {"voc07_map": voc, "coco_ap": coco}
        text = "not defined" if voc is None or coco is None else f"VOC07 mAP {voc:.3f}, COCO AP {coco:.3f}"
        out.say(f"{role}: {text} on {counted(len(dataset), 'image')}; errors and worst images in {folder}")
    return scores


def _show(progress: Progress, task: TaskID, count: int) -> None:
    progress.update(task, completed=count)


def _next_commands(config: TrainConfig) -> list[tuple[str, str]]:
    """What to do next, ready to paste, each with its purpose."""
    from vovnet.export.exporting import export_name

    run, root = _word(config.output), _word(config.data.root)
    split = config.data.val or config.data.train
    exported = _word(Path("exported") / f"{export_name(str(config.output))}.onnx")
    tiles = "" if config.data.tiles is None else f" --tiles {config.data.tiles.size}"
    return [
        (f"vovnet evaluate {run} {root} --split {_word(split)}{tiles}", "all metrics again, with other thresholds"),
        (f"vovnet predict IMAGE_OR_VIDEO --weights {run}{tiles}", "boxes in images and videos, as files and drawn"),
        (f"vovnet export {run} --to onnx --data {root} --split {_word(split)}", "a file that needs no PyTorch"),
        (f"vovnet-runtime predict {exported} IMAGE_OR_VIDEO{tiles}", "boxes with that file"),
    ]
