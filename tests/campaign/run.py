"""Tries the project with changed files, kills, full disks, bad servers and long runs: `python -m tests.campaign.run`.

Prints one table and writes a record. Exits with 1 if any figure that must be 0 is not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .commands import Check
from .sandbox import FAULTS, Outcome, changed, run_cases
from .targets import KINDS, seeds_of

KILLS = {"train": 20, "predict": 15, "evaluate": 10, "data check --fix": 10, "measure": 5}
FEW_KILLS = {"train": 1, "predict": 1, "data check --fix": 1}
_CHUNK = 40
_FIRST_CHANGED = 1000  # of the short part, which leaves out the whole files


def prepare() -> None:
    """Imports what readers import, once, so that a child process costs milliseconds."""
    import torch

    torch.set_num_threads(1)
    import av  # noqa: F401
    import matplotlib.font_manager  # noqa: F401
    import onnx  # noqa: F401
    from PIL import Image

    import vovnet.cli.main
    import vovnet.data.check
    import vovnet.engine.train
    import vovnet.paper.tables
    import vovnet.profiling.onnx.cost
    import vovnet.report.evaluation
    import vovnet.report.measurement_report  # noqa: F401

    Image.init()
    from vovnet.paper.sources import Sources
    from vovnet.paper.subjects import section_of

    for subject in ("table2", "table3"):  # they remember the costs of the networks
        section_of(subject, Sources())


def shares(total: int, kinds: Sequence[str], *, first: int = 0) -> list[tuple[str, int]]:
    """(kind, number) of each case: every kind by its weight, at least twice."""
    weight = sum(KINDS[kind].weight for kind in kinds)
    counts = {kind: max(2, round(total * KINDS[kind].weight / weight)) for kind in kinds}
    return [(kind, first + number) for kind, count in counts.items() for number in range(count)]


def _run_chunk(cases: Sequence[tuple[str, int]], *, seed: int, keep: Path) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="campaign-") as root:
        outcomes = list(run_cases(cases, seed=seed, root=Path(root, "run")))
    for outcome in outcomes:
        if outcome.faults:
            save(outcome, seed=seed, keep=keep)
    return outcomes


def mutations(cases: Sequence[tuple[str, int]], *, seed: int, keep: Path, jobs: int = 1) -> dict[str, list[Outcome]]:
    """Kind → the outcome of each changed file. Those with a fault are saved in `keep`."""
    for kind in dict.fromkeys(kind for kind, _ in cases):
        seeds_of(kind)  # so that the processes share them
    chunks = [cases[start : start + _CHUNK] for start in range(0, len(cases), _CHUNK)]
    work = partial(_run_chunk, seed=seed, keep=keep)
    found: dict[str, list[Outcome]] = defaultdict(list)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for outcomes in pool.imap(work, chunks):
            for outcome in outcomes:
                found[outcome.kind].append(outcome)
    return found


def save(outcome: Outcome, *, seed: int, keep: Path) -> None:
    """The changed file and what went wrong. The other files of its case are those of the seed."""
    target, files = changed(outcome.kind, outcome.number, seed)
    folder = keep / outcome.kind / str(outcome.number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / Path(target).name).write_bytes(files[target])
    lines = [f"{name}: {detail}" for name, detail in outcome.faults.items()]
    (folder / "why.txt").write_text("\n".join([target, *lines, alone(outcome), ""]), errors="backslashreplace")


def alone(outcome: Outcome) -> str:
    return f"python -m tests.campaign.run --only {outcome.kind}:{outcome.number}"


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the table and the record say of a kind."""
    accepted = sum(outcome.accepted for outcome in outcomes)
    counts = {name: sum(name in outcome.faults for outcome in outcomes) for name in FAULTS}
    peak, slowest = max(o.rss_kb for o in outcomes) / 2**20, max(o.seconds for o in outcomes)
    head = {"cases": len(outcomes), "accepted": accepted, "refused": len(outcomes) - accepted}
    return head | counts | {"peak_gib": round(peak, 2), "slowest_s": round(slowest, 1)}


def _sections(*, short: bool, seed: int) -> Iterator[tuple[str, Callable[[], Iterable[Check]]]]:
    from . import faults, full_disk, growth, hostile_names, kills

    if short:
        yield kills.SECTION, partial(kills.kills, FEW_KILLS, seed=seed)
        yield full_disk.SECTION, partial(full_disk.full_disk, only=["predict", "data check --fix"])
        yield (
            hostile_names.SECTION,
            partial(hostile_names.hostile_names, only=["data check", "predict", "unknown class"]),
        )
        yield faults.SECTION, partial(faults.bad_servers, only=faults.QUICK)
        yield growth.SECTION, partial(growth.growth, images=20, videos=60)
    else:
        yield kills.SECTION, partial(kills.kills, KILLS, seed=seed)
        yield full_disk.SECTION, full_disk.full_disk
        yield hostile_names.SECTION, hostile_names.hostile_names
        yield faults.SECTION, faults.bad_servers
        yield growth.SECTION, partial(growth.growth, images=2000, videos=200)


def _print_table(rows: Sequence[Sequence[object]]) -> None:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))


def report(found: Mapping[str, Sequence[Outcome]], checks: Mapping[str, Sequence[Check]], *, keep: Path) -> bool:
    """Prints the table and each fault; whether there is none."""
    if found:
        table = {kind: figures(outcomes) for kind, outcomes in found.items()}
        everything = [outcome for outcomes in found.values() for outcome in outcomes]
        table["all"] = figures(everything)
        _print_table([["kind", *table["all"]], *([kind, *values.values()] for kind, values in table.items())])
        for outcome in everything:
            for name, detail in outcome.faults.items():
                print(f"{name}: {detail[:200]}\n    {alone(outcome)}")
        if any(outcome.faults for outcome in everything):
            print(f"the files are in {keep}")
    for section, trials in checks.items():
        print(f"{section}: {sum(not trial.fault for trial in trials)} of {len(trials)}")
        for trial in trials:
            if trial.fault:
                print(f"    {trial.name}: {trial.fault}")
    good = not any(outcome.faults for outcomes in found.values() for outcome in outcomes)
    return good and not any(trial.fault for trials in checks.values() for trial in trials)


def record(
    found: Mapping[str, Sequence[Outcome]], checks: Mapping[str, Sequence[Check]], *, seed: int
) -> dict[str, Any]:
    import torch

    from vovnet.provenance import cpu_and_torch, device_name, installed_versions, record_header

    return {
        **record_header(shlex.join(["python", "-m", "tests.campaign.run", *sys.argv[1:]])),
        "seed": seed,
        "machine": f"{device_name(torch.device('cpu'))}; {cpu_and_torch()}",
        "versions": installed_versions(("pillow", "av", "onnx", "safetensors", "pyyaml", "pydantic", "numpy")),
        "limits": {"message": 500, "hang_s": 10, "memory_gib": 1.5},
        "all": figures([outcome for outcomes in found.values() for outcome in outcomes]),
        "kinds": {kind: figures(outcomes) for kind, outcomes in found.items()},
        "sections": {
            section: {"tried": len(trials), "held": sum(not trial.fault for trial in trials)}
            | {"faults": {trial.name: trial.fault for trial in trials if trial.fault}}
            for section, trials in checks.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=21_000, help="number of changed files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--sections", action="store_true", help="the kills, full disks, names, servers and growth too")
    parser.add_argument("--short", action="store_true", help="a small part of all, as in `make test`")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one changed file alone")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that show a fault")
    parser.add_argument("--record", type=Path, help="write all figures to this file")
    chosen = parser.parse_args(arguments)
    keep = chosen.keep or Path(tempfile.mkdtemp(prefix="campaign-faults-"))
    began = time.monotonic()
    prepare()
    if chosen.only:
        kind, _, number = chosen.only.partition(":")
        cases = [(kind, int(number))]
    else:
        cases = shares(600 if chosen.short else chosen.cases, chosen.kinds, first=_FIRST_CHANGED if chosen.short else 0)
    checks: dict[str, list[Check]] = {}
    if not chosen.only and (chosen.sections or chosen.short):
        checks = {name: list(run()) for name, run in _sections(short=chosen.short, seed=chosen.seed)}
        print(f"{time.monotonic() - began:.0f} s for {', '.join(checks)}", file=sys.stderr)
    found = mutations(cases, seed=chosen.seed, keep=keep, jobs=chosen.jobs)
    good = report(found, checks, keep=keep)
    print(f"{time.monotonic() - began:.0f} s")
    if chosen.record:
        from vovnet.files import write_json

        write_json(chosen.record, record(found, checks, seed=chosen.seed))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
