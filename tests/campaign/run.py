"""Tries the project with changed files, kills, full disks, bad servers and long runs: `python -m tests.campaign.run`.

Prints one table and writes a record. Exits with 1 if any figure that must be 0 is not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .sandbox import FAULTS, Outcome, changed, run_cases
from .targets import KINDS


def prepare() -> None:
    """Imports what readers import, once, so that a child process costs milliseconds."""
    import torch

    torch.set_num_threads(1)
    import av  # noqa: F401
    import onnx  # noqa: F401
    from PIL import Image

    import vovnet.data.check
    import vovnet.engine.train
    import vovnet.paper.subjects
    import vovnet.paper.tables
    import vovnet.profiling.onnx_cost
    import vovnet.report.measurement_report  # noqa: F401

    Image.init()


def shares(total: int, kinds: Sequence[str]) -> list[tuple[str, int]]:
    """(kind, number) of each case: every kind by its weight, at least twice."""
    weight = sum(KINDS[kind].weight for kind in kinds)
    counts = {kind: max(2, round(total * KINDS[kind].weight / weight)) for kind in kinds}
    return [(kind, number) for kind, count in counts.items() for number in range(count)]


def mutations(cases: Sequence[tuple[str, int]], *, seed: int, keep: Path) -> dict[str, list[Outcome]]:
    """Kind → the outcome of each changed file. Those with a fault are saved in `keep`."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as root:
        for outcome in run_cases(cases, seed=seed, root=Path(root)):
            found[outcome.kind].append(outcome)
            if outcome.faults:
                save(outcome, seed=seed, keep=keep)
    return found


def save(outcome: Outcome, *, seed: int, keep: Path) -> None:
    """The changed file, or what its case consists of where others matter too, and what went wrong."""
    target, files = changed(outcome.kind, outcome.number, seed)
    folder = keep / outcome.kind / str(outcome.number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / Path(target).name).write_bytes(files[target])
    lines = [f"{name}: {detail}" for name, detail in outcome.faults.items()]
    (folder / "why.txt").write_text("\n".join([target, *lines, command(outcome), ""]), errors="backslashreplace")


def command(outcome: Outcome) -> str:
    return f"python -m tests.campaign.run --only {outcome.kind}:{outcome.number}"


def row(kind: str, outcomes: Sequence[Outcome]) -> list[str]:
    refused = sum(not outcome.accepted for outcome in outcomes)
    counts = [sum(name in outcome.faults for outcome in outcomes) for name in FAULTS]
    peak, slowest = max(o.rss_kb for o in outcomes) / 2**20, max(o.seconds for o in outcomes)
    numbers = [len(outcomes), len(outcomes) - refused, refused, *counts]
    return [kind, *map(str, numbers), f"{peak:.2f}", f"{slowest:.1f}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one case alone")
    parser.add_argument("--keep", type=Path, help="folder for the files that show a fault")
    arguments = parser.parse_args()
    prepare()
    keep = arguments.keep or Path(tempfile.mkdtemp(prefix="campaign-"))
    if arguments.only:
        kind, _, number = arguments.only.partition(":")
        cases = [(kind, int(number))]
    else:
        cases = shares(arguments.cases, arguments.kinds)
    began = time.monotonic()
    found = mutations(cases, seed=arguments.seed, keep=keep)
    rows = [["kind", "cases", "accepted", "refused", *FAULTS, "GiB", "s"]]
    rows += [row(kind, outcomes) for kind, outcomes in found.items()]
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    for line in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"{time.monotonic() - began:.0f} s; faults saved in {keep}")
    for outcomes in found.values():
        for outcome in outcomes[:]:
            for name, detail in outcome.faults.items():
                if arguments.only:
                    print(name, detail)
    return 1 if any(outcome.faults for outcomes in found.values() for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
