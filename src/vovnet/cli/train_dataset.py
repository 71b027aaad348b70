"""`vovnet train DIR`: from a dataset to a trained and evaluated detector, without a config."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.data import only_by_hand
from vovnet.cli.output import Output, free_folder, show_progress
from vovnet.errors import UsageError, counted
from vovnet.printing import line, shell_word, shell_words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vovnet.engine.config import TrainConfig
    from vovnet.planning.plan import Plan, Request
    from vovnet.planning.soundness import Soundness

CONFIG = "config.yaml"
_START = b"# data: "  # of a config that a plan wrote
_FILES_OF_RUN = ("last.pt", "best.safetensors", "last.safetensors")
_MOST_LINES = 20
_FOLDERS_OF_IMAGES = ("images", "data", "dataset")  # are no names


class UnsoundDataError(ValueError):
    """A dataset that must be mended before it can be trained on; what is wrong has been printed."""


def output_of(root: Path, settings: tuple[str, ...]) -> Path:
    """The run folder that the settings name, else runs/ with the name of the dataset or split file: here, or beside a
    dataset that we are in, because some formats take every image and JSON file below their folder for one of theirs."""
    from vovnet.data.splits.split_file import is_split_file, read_split_file
    from vovnet.planning.splits import SPLIT_FILE

    named = [setting.removeprefix("output=") for setting in settings if setting.startswith("output=")]
    if named:
        return Path(named[-1])
    source, name_of_splits = root, ""
    if is_split_file(root):  # which may lie anywhere
        source, name_of_splits = read_split_file(root).root, "" if root.name == SPLIT_FILE else root.stem
    folder = (source.parent if source.is_file() else source).resolve()
    name = folder.parent.name if folder.name.lower() in _FOLDERS_OF_IMAGES else folder.name
    here = Path(os.path.relpath(folder.parent)) if Path.cwd().is_relative_to(folder) else Path()
    return here / "runs" / (name_of_splits or name or "mine")


def refuse_another_run(output: Path) -> None:
    """FileExistsError if a run or somebody's files are in the folder: it is found before the data is checked."""
    from vovnet.data.splits.split_file import is_split_file
    from vovnet.planning.splits import SPLIT_FILE

    if any((output / name).exists() for name in _FILES_OF_RUN):
        resume = "resume it with --resume or " if (output / "last.pt").exists() and (output / CONFIG).exists() else ""
        raise FileExistsError(f"{output} already holds a run; {resume}choose another output=FOLDER")
    for path, is_ours in ((output / CONFIG, _is_planned), (output / SPLIT_FILE, is_split_file)):
        if path.exists() and not is_ours(path):
            raise FileExistsError(f"{path} is not of a planned run: move it, or choose another output=FOLDER")


def _is_planned(config: Path) -> bool:
    """Whether a plan wrote the file."""
    if not config.is_file():
        return False
    with config.open("rb") as file:
        return file.read(len(_START)) == _START


def make_plan(request: Request, out: Output) -> Plan:
    """Check the data and plan a run; print what was found and measured.

    Raises UnsoundDataError if the data must be mended first.
    """
    from vovnet.data.formats import recognise
    from vovnet.folder_lock import folder_lock
    from vovnet.planning.plan import check_request, wanted_splits
    from vovnet.planning.plan import make_plan as make
    from vovnet.planning.soundness import check_soundness, most_decoded

    refuse_another_run(request.output)
    check_request(request)
    out.say(f"format: {recognise(request.root).sentence()}")
    splits, no_val = wanted_splits(request)
    with show_progress() as progress:
        task = progress.add_task("checking images", total=None)
        soundness = check_soundness(
            request.root,
            splits.train,
            splits.val,
            test=splits.test,
            most_images=most_decoded(request.minutes),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if not soundness.is_sound:
        _print_problems(soundness, out)
        raise UnsoundDataError(_remedy(soundness, request.root))
    for sentence in soundness.sentences():
        out.say(sentence)
    if soundness.unlabelled_test is not None:
        splits = replace(splits, test=None)
    if soundness.repeated_val is not None:
        splits = replace(splits, val=None)
    request = replace(request, compare_images=not soundness.report.headers_only)
    with folder_lock(request.output):  # of two plans at once one would change the files of the other
        return make(
            request, splits, no_val=no_val, say=lambda text: print(line(text, 300), file=sys.stderr, flush=True)
        )


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
        more, root = len(soundness.spoiling) - _MOST_LINES, shell_word(soundness.report.root)
        out.say(f"… and {more} more; `vovnet data check {root}` lists all")
    if not soundness.spoiling:
        out.say(soundness.why_unreadable)


def _remedy(soundness: Soundness, root: Path) -> str:
    from vovnet.data.check import KINDS
    from vovnet.data.formats import recognise
    from vovnet.data.splits.split_file import is_split_file, read_split_file

    source = read_split_file(root).root if is_split_file(root) else root
    folder = source.parent if source.is_file() else source
    kinds = {problem.kind for problem in soundness.spoiling}
    by_hand = only_by_hand(kinds)
    if not kinds:
        return f"{root} cannot be read as it is: mend what is said above by hand"
    start = f"{counted(len(soundness.spoiling), 'problem')} of {root} would spoil the training"
    if not kinds - by_hand:
        return f"{start}: mend the data by hand ({', '.join(sorted(by_hand))}: {KINDS[min(by_hand)][1]})"
    # A bad mask would cost an object whose box is good.
    options = "--ignore-masks " if soundness.has_masks else ""
    new = free_folder(folder, "-fixed")
    keeps_format = not hasattr(recognise(source).module, "COPY_FORMAT")
    mended = new / source.name if source.is_file() and keeps_format else new
    more = f"; --fix cannot mend {', '.join(sorted(by_hand))}" if by_hand else ""
    check = f"vovnet data check {shell_word(source)} {options}--fix {shell_word(new)}"
    return f"{start}: write a copy without them with `{check}`, then `vovnet train {shell_word(mended)}`{more}"


def train_dataset(request: Request, out: Output, *, resume: bool, plan_only: bool) -> int:
    """Plan, train and evaluate; the exit status."""
    from vovnet.engine.config import load_config
    from vovnet.engine.config_text import config_yaml
    from vovnet.engine.train import train
    from vovnet.files import try_folder, write_text
    from vovnet.folder_lock import folder_lock

    output = request.output
    if resume and plan_only:
        raise UsageError("--plan prints a new plan, and --resume goes on with that of a run: give one of them")
    resumes = resume and (output / "last.pt").exists() and (output / CONFIG).is_file()
    if resumes:
        if request.minutes is not None or request.max_ms is not None or request.weights is not None:
            raise UsageError("--resume goes on with the plan of the run: leave out --minutes, --max-ms and --from")
        config = load_config(output / CONFIG, [*request.settings, "resume=true"])
        _require_same_data(config, request)
    else:
        if resume:
            out.say(f"{output} holds no run to resume: a new one is planned")
        if not plan_only:
            with folder_lock(output):  # which removes a folder that nothing was written to
                try_folder(output, "choose another output=FOLDER")
        plan = make_plan(request, Output("-") if plan_only else out)
        config, text = plan.config, f"{reasons_as_comments(plan)}{config_yaml(plan.config)}"
        if plan_only:
            if out.json_file != "-":
                print(text, end="")
            out.json({"config": config.model_dump(mode="json"), "reasons": plan.reasons, "seconds": plan.seconds})
            return 0
        _print_plan(plan, out)
        write_text(output / CONFIG, text)
        again = shell_words(["vovnet", "train", output / CONFIG, f"output={free_folder(output, '-again')}"])
        out.command(f"the config is {output / CONFIG}; `{again}` repeats the run")
    result = train(config)
    if not result.finished:
        again = f"vovnet train {shell_word(request.root)} --resume"
        again += "" if output == output_of(request.root, ()) else f" {shell_word(f'output={output}')}"
        out.command(f"stopped after {counted(result.steps, 'step')}; `{again}` goes on; results in {output}")
        return 130
    out.say(f"trained {counted(result.steps, 'step')} in {_duration(time.monotonic() - request.started)}")
    scores = _evaluate(config, request, out)
    out.say("next:")
    for command, purpose in _next_commands(config):
        out.command(f"  {command}  # {purpose}")
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


def _require_same_data(config: TrainConfig, request: Request) -> None:
    """UsageError unless a run that is to be resumed is one on the dataset that was named."""
    if _datasets(config.data.root).isdisjoint(_datasets(request.root)):
        raise UsageError(
            f"{request.output} holds a run on {config.data.root}, not on {request.root}: choose another output=FOLDER"
        )


def _datasets(root: Path) -> set[Path]:
    """A dataset; of a split file also the one that it selects from."""
    from vovnet.data.splits.split_file import is_split_file, read_split_file

    return {root.resolve()} | ({read_split_file(root).root.resolve()} if is_split_file(root) else set())


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

    data, test = config.data, find_splits(config.data.root).test
    named = {"val": data.val, "test": None if test == data.val else test}
    named = {role: split for role, split in named.items() if split is not None and split != data.train}
    if not named:
        return {}
    if find_spec("hotcoco") is None or find_spec("matplotlib") is None:
        out.say(f"no evaluation: it needs an extra ({install_extra('eval')})")
        return {}
    from vovnet.report.evaluation import write_evaluation

    weights = config.output / "best.safetensors"
    scores: dict[str, object] = {}
    for role, split in named.items():
        detector = load(weights, config.device)
        try:
            dataset = open_dataset(config.data.root, split, class_names=detector.class_names)
            require_objects(dataset)
        except (ValueError, OSError) as error:  # what was trained is there and good
            out.say(f"{role}: no evaluation: {error}")
            continue
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
        page = folder / "evaluation.html"
        out.say(f"{role}: {text} on {counted(len(dataset), 'image')}; errors and worst images: {page}")
    if "val" in scores and "test" not in scores:
        out.say(
            "the result on val is optimistic, because val chose the weights and the score thresholds, and there is no "
            "split test: keep some labelled images apart to learn how good the detector is on new ones"
        )
    return scores


def _show(progress: Progress, task: TaskID, count: int) -> None:
    progress.update(task, completed=count)


def _next_commands(config: TrainConfig) -> list[tuple[str, str]]:
    """What to do next, ready to paste, each with its purpose."""
    from vovnet.data.formats import open_dataset
    from vovnet.export.exporting import export_name

    split = config.data.val or config.data.train
    image = shell_word(open_dataset(config.data.root, split)[0].image_path)
    run, data = shell_word(config.output), f"{shell_word(config.data.root)} --split {shell_word(split)}"
    exported = shell_word(Path("exported") / f"{export_name(str(config.output))}.onnx")
    tiles = ""
    if config.data.tiles is not None:
        tiles = f" --tiles {config.data.tiles.size} --overlap {config.data.tiles.overlap:g}"
    return [
        (
            f"vovnet evaluate {run} {data}{tiles}",
            "all metrics again, with other thresholds",
        ),
        (f"vovnet predict {image} --weights {run}{tiles}", "boxes in any image or video, as files and drawn"),
        (f"vovnet export {run} --to onnx --data {data}", "a file that needs no PyTorch"),
        (f"vovnet-runtime predict {exported} {image}{tiles}", "boxes with that file"),
    ]
