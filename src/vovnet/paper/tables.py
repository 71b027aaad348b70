"""The paper's Tables 1 to 7, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from vovnet.paper.accuracy import FIGURES, PLACES, Accuracies
from vovnet.paper.blood_cells import Study, bottleneck_table, equal_budget_table
from vovnet.paper.cells import Answer, Cell, ComparedRow, compared_table
from vovnet.paper.measured_tables import PAPERS_DEVICE, Record, measured_answer, measured_speed
from vovnet.paper.published import (
    STAGES,
    TABLE_1,
    TABLE_1_NAMES,
    TABLE_1_STRIDES,
    TABLES,
    PublishedColumn,
    PublishedRow,
)
from vovnet.paper.rounding import check, digits, how_equal, rounded, whole_ms
from vovnet.paper.structure import (
    backbone_counts,
    build,
    check_flops,
    check_parameters,
    flops_g,
)
from vovnet.report.document import Section, Table

# With whose speed the others of a table are compared.
REFERENCES = {"table2": "DSOD300, VoVNet-27-slim", "table3": "VoVNet-27-slim", "table4": "VoVNet-39"}
IMPLIED_TIME, IMPLIED_POWER = (
    PublishedColumn("implied_time", "time behind the FPS", "ms"),
    PublishedColumn("power", "implied power", "W"),
)
DEVICE_COLUMNS = ("fps", "time", "memory", "energy", "efficiency")


def table_1() -> Section:
    backbones = {name: backbone_counts(name) for name in TABLE_1}
    columns = [PublishedColumn("stride", "stride"), *(PublishedColumn(name, TABLE_1_NAMES[name]) for name in TABLE_1)]
    rows = []
    for place, (stage, stride) in enumerate(zip(STAGES, TABLE_1_STRIDES, strict=True)):
        strides = {str(one.parts[place].stride) for one in backbones.values()}
        cells = [Cell(stride, _same(" or ".join(sorted(strides)), stride))]
        cells += [
            Cell(TABLE_1[name][place], _same(one.parts[place].text, TABLE_1[name][place]))
            for name, one in backbones.items()
        ]
        rows.append(ComparedRow(stage, cells))
    named = [(str(one.convolutions), TABLE_1_NAMES[name].split("-")[1]) for name, one in backbones.items()]
    rows.append(ComparedRow("convolutions", [Cell(), *(Cell(printed, _same(own, printed)) for own, printed in named)]))
    totals = [[name, *_totals(name)] for name in TABLE_1]
    header = ["backbone", "stem", *STAGES[3:], "parameters", "with a classifier of 1000", "multiply-adds at 224"]
    return Section(
        "Table 1: the backbones",
        (
            "Read off the built networks: `4 × OSA(5 × 3×3 of 192 → 768)` is four modules of five 3×3 layers with 192 "
            "channels, which a 1×1 over the module's input and all five joins to 768. The number in a name counts the "
            "convolutions.",
            compared_table("", "", columns, rows),
            Table(header, totals, "Parameters and multiply-adds (exact; the paper prints none)"),
        ),
    )


def table_section(key: str, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]) -> Section:
    """Tables 2 to 7."""
    table = TABLES[key]
    columns = list(table.columns)
    keys = [column.key for column in columns]
    if "fps" in keys:
        columns.insert(keys.index("fps") + 1, IMPLIED_TIME)
    if "energy" in keys:
        columns.append(IMPLIED_POWER)
    reference = table.row(REFERENCES[key]) if key in REFERENCES else None
    if reference is not None:
        columns.append(PublishedColumn("speed", f"speed ÷ that of {reference.name}"))
    rows = [
        ComparedRow(row.name, [_cell(key, row, column.key, record, accuracies, reference) for column in columns])
        for row in table.rows
        if row.model
    ]
    tables = [compared_table("", "model", columns, rows, _notes(key))]
    if others := [row for row in table.rows if not row.model]:
        lines = [[row.name, *(row.figures.get(column.key, "–") for column in table.columns)] for row in others]
        header = ["model", *(column.header for column in table.columns)]
        tables.append(Table(header, lines, "Methods of others, as published"))
    if key == "table2":
        tables.append(equal_budget_table(studies, record))
    if key == "table3":
        tables.append(bottleneck_table(studies))
    return Section(table.title, tuple(tables))


def _cell(
    table: str,
    row: PublishedRow,
    column: str,
    record: Record | None,
    accuracies: Accuracies,
    reference: PublishedRow | None,
) -> Cell:
    assert row.model is not None
    printed = row.figures.get(column)
    if column == "flops":
        assert printed is not None
        return Cell(printed, check_flops(row.model, printed, norms_too=table == "table4"))
    if column == "parameters":
        return Cell(printed, check_parameters(row.model, printed))
    if column == "input":
        return Cell(printed, _same(str(build(row.model).preprocessing.image_size[0]), printed or ""))
    if column in FIGURES:
        return Cell(printed, run=accuracies.answer(table, row, column))
    if column == "speed":
        assert reference is not None
        assert reference.model is not None
        return Cell(None, _ratio(row, reference), measured_speed(record, table, row.model, reference.model))
    if column == "implied_time":
        return Cell(None, _implied_time(row) if "fps" in row.figures else None)
    if column == "power":
        watts = Decimal(row.figures["energy"]) * Decimal(row.figures["fps"])
        return Cell(None, Answer("derived", f"{rounded(watts, 0)}", float(watts), detail="J/image × FPS"))
    assert column in DEVICE_COLUMNS, column
    if printed is None:
        return Cell()
    return Cell(printed, _derived(table, row, column), measured_answer(record, table, row.model, column))


def _derived(table: str, row: PublishedRow, column: str) -> Answer | None:
    """The table's own arithmetic, where the figure comes from others of its row."""
    printed = row.figures[column]
    if column not in ("fps", "efficiency"):
        return None
    found = whole_ms(row.figures["fps"])
    if found is None:
        return Answer("differs", note="no one whole number of milliseconds gives these FPS")
    ms, _ = found
    if column == "fps":
        return check(Decimal(1000) / ms, printed, "derived", detail=f"1000 / {ms} ms")
    return efficiency(row, ms, norms_too=table == "table4")


def efficiency(row: PublishedRow, ms: int, norms_too: bool) -> Answer:
    """FLOPs over whole milliseconds, cut; with the printed FLOPs or else with the exact ones, whichever was printed."""
    assert row.model is not None
    printed, exact = Decimal(row.figures["flops"]), flops_g(row.model, norms_too)
    ways = {"the printed FLOPs": printed * 1000 / ms, "the exact FLOPs": exact * 1000 / ms}
    wanted = row.figures["efficiency"]
    for accepted in (("cut", ""), ("rounded",)):
        for source, value in ways.items():
            if how_equal(value, wanted) in accepted:
                answer = check(value, wanted, "derived", detail=f"{source} / {ms} ms")
                both = source == "the printed FLOPs" and how_equal(ways["the exact FLOPs"], wanted) is None
                other = f"{rounded(ways['the exact FLOPs'], digits(wanted) + 1)} with the exact FLOPs"
                return replace(answer, detail=f"{answer.detail}; {other}" if both else answer.detail)
    return check(ways["the printed FLOPs"], wanted, "derived", detail=f"{ms} ms")


def _implied_time(row: PublishedRow) -> Answer | None:
    found = whole_ms(row.figures["fps"])
    if found is None:
        return None
    ms, way = found
    detail = f"1000 / {ms} ms, {way or 'cut or rounded'}, is the printed FPS"
    return Answer("derived", str(ms), float(ms), detail=detail)


def _ratio(row: PublishedRow, reference: PublishedRow) -> Answer:
    """Of the printed FPS, or of the printed times."""
    if "fps" in row.figures:
        ratio = Decimal(row.figures["fps"]) / Decimal(reference.figures["fps"])
    else:
        ratio = Decimal(reference.figures["time"]) / Decimal(row.figures["time"])
    return Answer("derived", f"{rounded(ratio, 2)}", float(ratio), detail="of the printed speeds")


def _same(own: str, printed: str) -> Answer:
    return Answer("exact" if own == printed else "differs", own)


def _totals(name: str) -> list[str]:
    found = backbone_counts(name)
    stem = sum(part.parameters for part in found.parts[:3])
    stages = [part.parameters for part in found.parts[3:]]
    whole = found.parameters, found.classifier_parameters, found.multiply_adds
    return [f"{count:,}" for count in (stem, *stages, *whole)]


def _notes(key: str) -> Sequence[str]:
    """What holds for a whole table."""
    notes = []
    if key == "table4":
        notes.append(
            "FLOPs here are multiply-adds and one operation for each output of a batch norm: only their sum gives all "
            "six printed figures"
        )
    elif key in ("table2", "table3"):
        notes.append("FLOPs are multiply-adds")
    if key in ("table2", "table4"):
        notes.append(
            "the printed FPS are 1000 over whole milliseconds, and the efficiency is FLOPs over the same milliseconds, "
            f"both cut; implied power is J/image × FPS; the speeds are of a {PAPERS_DEVICE}"
        )
    if key in ("table6", "table7"):
        notes.append("the printed FPS are 1000 over whole milliseconds")
    if key == "table5":
        notes.append("box AP75 is headed AP70 in print; the paper prints no parameters")
        notes.append(
            "measured here, the regions are as many as random weights propose; those of trained ones take another time"
        )
        notes.append("the paper quotes the rows of ResNet-50-GN and ResNet-101-GN from the article on group norm")
    kind = "voc" if key in ("table2", "table3") else "coco"
    notes.append(f"the configs expect the data in {PLACES[kind]}")
    return notes
