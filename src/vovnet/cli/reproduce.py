"""`vovnet reproduce`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.cli.app import app
from vovnet.cli.options import Device, Json, Repetitions, Switch
from vovnet.cli.output import Output, make_folder, need, show_progress
from vovnet.errors import UsageError, nearest_beside
from vovnet.folder_lock import folder_lock
from vovnet.printing import line

if TYPE_CHECKING:
    from vovnet.report.document import Section

RECORDS = Path("docs/records")


@app.command
def reproduce(
    *names: str,
    measure: Switch = False,
    repetitions: Repetitions = 200,
    energy: bool = True,
    records: Path | None = None,
    runs: Path | None = None,
    voc: Path | None = None,
    coco: Path | None = None,
    device: Device = "auto",
    output: Path = Path("runs/reproduce"),
    json_file: Json = None,
) -> int:
    """Compare the paper's tables, figures and claims with recomputed and measured values; without names, list them.

    Parameters
    ----------
    names:
        table1 … table7, figure2 … figure5, mac, claims, or all.
    measure:
        Measure the models of the named tables now: time, memory, and energy if there is a sensor.
    repetitions:
        Timed passes per model, interleaved with those of the other models.
    energy:
        Measure joules too, if there is a sensor; takes minutes per model.
    records:
        Folder of earlier records, used for what is not measured now; docs/records by default, if it exists.
    runs:
        Folder of finished runs, each named after its config; their weights are evaluated on --voc and --coco.
    voc:
        Folder of VOC2007 in VOC format.
    coco:
        COCO folder that contains minival2014 or val2017.
    output:
        Folder for reproduction.md, .json and .html, the figures, and the records of new measurements.
    """
    out = Output(json_file)
    from vovnet.paper.subjects import SUBJECTS, choose

    if not names:
        out.table(["name", "what"], [[name, what] for name, what in SUBJECTS.items()])
        out.say("vovnet reproduce NAME…, or all")
        out.json(SUBJECTS)
        return 0
    chosen = choose(names)
    _check_folders(records, runs, voc, coco)
    need("markdown_it", "matplotlib")

    from vovnet.paper.folder import write_folder
    from vovnet.paper.measured import MEASURED_TABLES, measure_table
    from vovnet.paper.sources import Sources
    from vovnet.paper.subjects import section_of

    measured = [name for name in chosen if name in MEASURED_TABLES] if measure else []
    if measure and not measured:
        raise UsageError(f"--measure is for {', '.join(MEASURED_TABLES)}: name one of them")
    make_folder(output)
    with folder_lock(output):
        earlier = records if records is not None else RECORDS if RECORDS.is_dir() else None
        data = {kind: folder for kind, folder in (("voc", voc), ("coco", coco)) if folder is not None}
        with show_progress() as progress:
            task = progress.add_task("", total=None)

            def say(what: str) -> None:
                progress.update(task, description=line(what))

            for table in measured:
                measure_table(
                    table, output / f"{table}.json", device=device, repetitions=repetitions, energy=energy, on_step=say
                )
            sources = Sources(earlier, output, measured, runs, data, device, say)
            sections = {}
            for name in chosen:
                say(name)
                sections[name] = section_of(name, sources)
            say("figures and pages")
            content = write_folder(sections, output)
    print_sections(sections.values(), out)
    out.say(f"reproduction.md, .json, .html and figures in {output}")
    out.json(content)
    return 0


def _check_folders(records: Path | None, runs: Path | None, voc: Path | None, coco: Path | None) -> None:
    if runs is not None and voc is None and coco is None:
        raise UsageError("--runs are evaluated on a dataset: give --voc DIR or --coco DIR too")
    if runs is None and (voc is not None or coco is not None):
        raise UsageError("--voc and --coco are for the weights of finished runs: give --runs DIR too")
    for folder in (records, runs, voc, coco):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"the folder {folder} does not exist{nearest_beside(folder)}")


def print_sections(sections: Iterable[Section], out: Output) -> None:
    """Print paragraphs and tables; figures are in the output folder."""
    from vovnet.report.document import Table

    for section in sections:
        out.say(section.title)
        out.say()
        for part in section.parts:
            if isinstance(part, str):
                out.say(part.replace("`", ""))
                out.say()
            elif isinstance(part, Table):
                if part.title:
                    out.say(part.title)
                out.table(part.header, part.rows)
                for note in part.notes:
                    out.say(note.replace("`", ""))
                out.say()
