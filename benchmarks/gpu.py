"""Everything that needs a GPU, in one command: `make gpu`, or `python benchmarks/gpu.py --budget 580 --data VOC`.

Runs the stages check, tables, voc, throughput and study in this order, each for at most its time, and writes
OUTPUT/STAGE.json after every measurement. What is recorded already, with the same code, is not repeated; so a second
call goes on where the first one stopped or was killed. `--rehearse` runs all of it, tiny, on the CPU. docs/gpu.md says
what to bring along and what the records mean.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_stages import check, study, tables, throughput, voc
from gpu_stages.keys import source_key
from gpu_stages.machine import card_name, describe
from gpu_stages.orchestration import SOME_FAILED, Planned, Stopped, die_with_parent, run_stages
from gpu_stages.record import FAILED, STOPPED, StageRecord
from gpu_stages.stage import Options, Stage
from shared import RECORDS, ROOT

from vovnet.folder_lock import folder_lock

BUDGET_S = 580.0  # a call of ten minutes; the next one goes on


@dataclass(frozen=True)
class Kind:
    """A stage by its module.

    seconds: the most it takes; least_s: what it needs to begin.
    lacks: why it cannot run with what was brought along.
    sources, settings: what its results depend on; by_card: also on the card, as speeds do.
    """

    run: Callable[[Stage], object]
    seconds: float
    least_s: float
    sources: Sequence[str]
    settings: Callable[[Options], dict[str, Any]]
    by_card: bool
    is_done: Callable[[StageRecord, str], bool]
    lacks: Callable[[Options], str | None]


KINDS = {
    name: Kind(
        run=module.run,
        seconds=module.SECONDS,
        least_s=module.LEAST_S,
        sources=module.SOURCES,
        settings=module.settings,
        by_card=module.BY_CARD,
        is_done=module.is_done,
        lacks=getattr(module, "lacks", lambda options: None),
    )
    for name, module in (
        ("check", check),
        ("tables", tables),
        ("voc", voc),
        ("throughput", throughput),
        ("study", study),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.output is None:
        args.output = ROOT / "runs/gpu_rehearsal" if args.rehearse else RECORDS / "gpu"
    if args.rehearse and args.output.resolve() == (RECORDS / "gpu").resolve():
        sys.exit("gpu: a rehearsal measures nothing that counts: choose another --output than docs/records/gpu")
    options = Options(
        output=args.output.absolute(),
        work=args.work.absolute() / ("rehearsal" if args.rehearse else "gpu"),
        data=args.data and args.data.absolute(),
        cifar=args.cifar and args.cifar.absolute(),
        rehearse=args.rehearse,
        again=args.again,
    )
    if args.stage:
        return _run_stage(args.stage, options, args)
    if not (args.rehearse or torch.cuda.is_available()):
        sys.exit("gpu: PyTorch finds no CUDA GPU; --rehearse runs all of it on the CPU")
    args.command = shlex.join(["python", "benchmarks/gpu.py", *(sys.argv[1:] if arguments is None else arguments)])
    names = args.stages or list(KINDS)
    try:
        with folder_lock(options.work):
            plan = _plans(names, options, args)
            return 0 if run_stages(plan, args.budget, show=partial(print, flush=True)) else 1
    except Stopped as signal_name:
        print(f"stopped by {signal_name}; what was measured is in {options.output}")
        return 130
    except (OSError, ValueError) as error:
        sys.exit(f"gpu: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=_seconds, default=BUDGET_S, metavar="SECONDS", help="for all stages together")
    parser.add_argument("--stages", nargs="+", choices=list(KINDS), metavar="STAGE", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="records and weights; default docs/records/gpu")
    parser.add_argument("--work", type=Path, default=ROOT / "runs", metavar="DIR", help="checkpoints; default runs/")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the VOC pack, with the lists fit and held")
    parser.add_argument("--cifar", type=Path, metavar="DIR", help="CIFAR-10")
    parser.add_argument("--again", action="store_true", help="measure also what is recorded with the same code")
    parser.add_argument("--commit", type=_commit, metavar="HASH", help="of this copy, if it is no git checkout")
    parser.add_argument("--rehearse", action="store_true", help="everything, tiny, on the CPU")
    for name in ("stage", "command", "key"):  # of the process that runs one stage
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=math.inf, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text}")
    return value


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{7,64}\+?", text):
        raise argparse.ArgumentTypeError(f"must be the hash of a commit, as `git rev-parse HEAD` prints it, got {text}")
    return text


def _plans(names: Sequence[str], options: Options, args: argparse.Namespace) -> list[Planned]:
    """The stages of which something is missing or stale, and for which all is there.

    The last one gets all that is left of the budget; without study, tables gets before what the others leave.
    """
    plans = []
    for name in names:
        kind, record = KINDS[name], StageRecord(options.output, name, rehearsal=options.rehearse)
        key = _key(kind, options)
        # A stage alone also measures what it has no time for beside others.
        if not options.again and len(names) > 1 and kind.is_done(record, key):
            print(f"{name}: done, and its code has not changed; --again repeats it", flush=True)
        elif (reason := kind.lacks(options)) is not None:
            record.miss(name, reason)
            print(f"{name}: {reason}", flush=True)
        else:
            plans.append(_plan(name, kind, key, options, args))
    spare_s = max(0.0, args.budget - sum(plan.seconds for plan in plans))
    plans = [replace(plan, seconds=plan.seconds + spare_s) if plan.name == "tables" else plan for plan in plans]
    return [*plans[:-1], replace(plans[-1], seconds=math.inf)] if plans else []


def _plan(name: str, kind: Kind, key: str, options: Options, args: argparse.Namespace) -> Planned:
    before = set(StageRecord(options.output, name, rehearsal=options.rehearse).content["runs"])

    def failed(reason: str) -> None:
        record = StageRecord(options.output, name, rehearsal=options.rehearse)  # as the stage's process left it
        record.run = next((run for run in record.content["runs"] if run not in before), "")
        record.end(STOPPED if reason.startswith("stopped") else FAILED, reason)

    def skipped(reason: str) -> None:
        StageRecord(options.output, name, rehearsal=options.rehearse).miss(name, reason)

    def run(deadline_s: float) -> list[str]:
        paths = {"--output": options.output, "--work": options.work.parent, "--data": options.data}
        paths |= {"--cifar": options.cifar}
        flags = [str(part) for option, path in paths.items() if path is not None for part in (option, path)]
        switches = ["--rehearse"] * options.rehearse + ["--again"] * options.again
        own = ["--stage", name, "--deadline", str(deadline_s), "--parent", str(os.getpid())]
        own += ["--key", key, "--command", args.command, *(["--commit", args.commit] if args.commit else [])]
        return [sys.executable, "-u", str(Path(__file__).resolve()), *flags, *switches, *own]

    seconds, least_s = (math.inf, 0.0) if options.rehearse else (kind.seconds, kind.least_s)
    return Planned(name, seconds, least_s, run, failed, skipped)


def _key(kind: Kind, options: Options) -> str:
    settings = {**kind.settings(options), "rehearse": options.rehearse}
    return source_key(ROOT, kind.sources, settings | ({"card": card_name(options.device)} if kind.by_card else {}))


def _run_stage(name: str, options: Options, args: argparse.Namespace) -> int:
    """One stage in this process."""
    die_with_parent(args.parent)
    record = StageRecord(options.output, name, rehearsal=options.rehearse)
    record.begin(args.command, describe(options.device), commit=args.commit)
    stage = Stage(options, record, args.key, args.deadline)
    KINDS[name].run(stage)
    stage.end()
    return SOME_FAILED if stage.some_failed else 0


if __name__ == "__main__":
    sys.exit(main())
