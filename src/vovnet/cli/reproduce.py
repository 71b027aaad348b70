"""`vovnet reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from vovnet.cli.app import app
from vovnet.cli.output import Json, Output, make_folder, show_progress
from vovnet.errors import UsageError

RECORDS = Path("docs/records")


@app.command
def reproduce(
    *names: str,
    measure: Annotated[bool, Parameter(negative="")] = False,
    repetitions: Annotated[int, Parameter(validator=Number(gte=2))] = 200,
    energy: bool = True,
    records: Path | None = None,
    runs: Path | None = None,
    voc: Path | None = None,
    coco: Path | None = None,
    device: str = "auto",
    output: Path = Path("runs/reproduce"),
    json_file: Json = None,
) -> int:
    """Set what the paper prints beside what is recomputed, measured or still needed; without names, list them.

    Parameters
    ----------
    names:
        table1 … table7, figure2 … figure5, mac, claims; all is all of them.
    measure:
        Measure the models of the named tables now: time, memory, and energy where there is a sensor.
    repetitions:
        Timed passes of each model, in turn with the others.
    energy:
        Measure joules too, where there is a sensor; takes minutes a model.
    records:
        Folder of records of earlier, taken where nothing is measured now; by default docs/records, if it is there.
    runs:
        Folder of finished runs that are called as their configs; their weights are evaluated on --voc and --coco.
    voc:
        Folder of VOC2007 in VOC form.
    coco:
        Folder of COCO, with minival2014 or val2017.
    device:
        auto, cpu, cuda, cuda:N or mps.
    output:
        Folder for reproduction.md, .json and .html, the pictures, and the records of what was measured.
    json_file:
        Write everything as JSON to this file, or "-" for standard output.
    """
    out = Output(json_file)
    from vovnet.paper.names import SUBJECTS, choose

    if not names:
        out.table(["name", "what"], [[name, what] for name, what in SUBJECTS.items()])
        out.say("vovnet reproduce NAME…, or all")
        out.json(SUBJECTS)
        return 0
    chosen = choose(names)
    if runs is not None and voc is None and coco is None:
        raise UsageError("--runs is evaluated on data: give --voc DIR or --coco DIR too")
    if runs is None and (voc is not None or coco is not None):
        raise UsageError("--voc and --coco are for the weights of finished runs: give --runs DIR too")
    for folder in (records, runs, voc, coco):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"the folder {folder} does not exist")
    # What would be missing at the end is missed now, and no hour of measuring is lost.
    import markdown_it  # noqa: F401
    import matplotlib  # noqa: F401

    from vovnet.paper.accuracy import Accuracies
    from vovnet.paper.folder import write_folder
    from vovnet.paper.measured_tables import MEASURED_TABLES, measure_table
    from vovnet.paper.subjects import Sources, section_of
    from vovnet.report.document import Table

    fresh = [name for name in chosen if name in MEASURED_TABLES] if measure else []
    if measure and not fresh:
        raise UsageError(f"--measure is for {', '.join(MEASURED_TABLES)}: name one of them")
    make_folder(output)
    earlier = records if records is not None else RECORDS if RECORDS.is_dir() else None
    data = {kind: folder for kind, folder in (("voc", voc), ("coco", coco)) if folder is not None}
    with show_progress() as progress:
        task = progress.add_task("", total=None)

        def say(what: str) -> None:
            progress.update(task, description=what)

        for table in fresh:
            measure_table(
                table, output / f"{table}.json", device=device, repetitions=repetitions, energy=energy, on_step=say
            )
        accuracies = Accuracies(output, runs, data, earlier, device, say)
        sources = Sources(accuracies, earlier, output if fresh else None, fresh)
        sections = {}
        for name in chosen:
            say(name)
            sections[name] = section_of(name, sources)
        say("pictures and pages")
        content = write_folder(sections, output)
    for section in sections.values():
        out.say(f"{section.title}\n")
        for part in section.parts:
            if isinstance(part, Table):
                if part.title:
                    out.say(part.title)
                out.table(list(part.header), [list(row) for row in part.rows])
                for note in part.notes:
                    out.say(note.replace("`", ""))
                out.say("")
            elif isinstance(part, str):
                out.say(part.replace("`", "") + "\n")
    out.say(f"reproduction.md, .json, .html and pictures in {output}")
    out.json(content)
    return 0
