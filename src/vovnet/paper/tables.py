"""The paper's Tables 1 to 7: each published value beside what is recomputed, derived, measured or still needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from vovnet.paper.accuracy import DATA_FOLDERS, METRICS, Accuracies
from vovnet.paper.answers import Answer, Cell, ComparedRow, compared_answer, compared_table, same_text
from vovnet.paper.blood_cells import Study, bottleneck_table, equal_budget_table
from vovnet.paper.measured import MEASURED_COLUMNS, PAPERS_DEVICE, Record, measured_answer, measured_speed_ratio
from vovnet.paper.published import TABLE_1, TABLE_1_BACKBONES, TABLES, PublishedColumn, PublishedRow
from vovnet.paper.recomputed import (
    BackboneCounts,
    backbone_counts,
    flops_answer,
    flops_g,
    input_side,
    parameters_answer,
)
from vovnet.paper.rounding import digits, how_equal, rounded, whole_ms
from vovnet.report.document import Section, Table

# The row with whose speed a table's other rows are compared.
REFERENCES = {"table2": "DSOD300, VoVNet-27-slim", "table3": "VoVNet-27-slim", "table4": "VoVNet-39"}
TIME_BEHIND_FPS = PublishedColumn("implied_time", "time behind the FPS", "ms")
IMPLIED_POWER = PublishedColumn("power", "implied power", "W")


def table_1_section() -> Section:
    backbones = [backbone_counts(name) for name in TABLE_1_BACKBONES]
    columns = [
        PublishedColumn("stride", "stride"),
        *(PublishedColumn(name, title) for name, title in TABLE_1_BACKBONES.items()),
    ]
    rows = []
    for index, (part, stride, *printed) in enumerate(TABLE_1):
        strides = sorted({str(backbone.parts[index].stride) for backbone in backbones})
        cells = [Cell(stride, same_text(" or ".join(strides), stride))]
        for backbone, text in zip(backbones, printed, strict=True):
            cells.append(Cell(text, same_text(backbone.parts[index].text, text)))
        rows.append(ComparedRow(part, cells))
    convolutions = [Cell()]
    for title, backbone in zip(TABLE_1_BACKBONES.values(), backbones, strict=True):
        in_name = title.split("-")[1]
        convolutions.append(Cell(in_name, same_text(str(backbone.convolutions), in_name)))
    rows.append(ComparedRow("convolutions", convolutions))
    totals = [[name, *_totals(backbone)] for name, backbone in zip(TABLE_1_BACKBONES, backbones, strict=True)]
    stages = [part for part, *_ in TABLE_1[3:]]
    header = ["backbone", "stem", *stages, "parameters", "with a classifier of 1000", "multiply-adds at 224"]
    return Section(
        "Table 1: the backbones",
        (
            "Read from the built networks. `4 × OSA(5 × 3×3 of 192 → 768)` is four modules of five 3×3 layers with 192 "
            "channels each; a 1×1 joins the module's input and all five layers to 768 channels. The number in a name "
            "counts the convolutions.",
            compared_table("", columns, rows),
            Table(header, totals, "Parameters and multiply-adds (exact; the paper prints none)"),
        ),
    )


def _totals(backbone: BackboneCounts) -> list[str]:
    stem, stages = backbone.parts[:3], backbone.parts[3:]
    parts = [sum(part.parameters for part in stem), *(stage.parameters for stage in stages)]
    return [
        f"{count:,}" for count in (*parts, backbone.parameters, backbone.classifier_parameters, backbone.multiply_adds)
    ]


def table_section(key: str, record: Record | None, accuracies: Accuracies, studies: Mapping[str, Study]) -> Section:
    """One of Tables 2 to 7.

    record: measurements of the table's models.
    accuracies: evaluations of finished runs.
    studies: the detectors on blood cells, by model.
    """
    table = TABLES[key]
    columns = list(table.columns)
    keys = [column.key for column in columns]
    if "fps" in keys:
        columns.insert(keys.index("fps") + 1, TIME_BEHIND_FPS)
    if "energy" in keys:
        columns.append(IMPLIED_POWER)
    reference = table.row(REFERENCES[key]) if key in REFERENCES else None
    if reference is not None:
        columns.append(PublishedColumn("speed", f"speed ÷ that of {reference.name}"))

    def cell(row: PublishedRow, column: str) -> Cell:
        printed = row.values.get(column)
        if column in METRICS:
            return Cell(printed, run=accuracies.answer(key, row, column))
        if column == "speed":
            assert reference is not None
            assert row.model is not None
            assert reference.model is not None
            run = measured_speed_ratio(record, key, row.model, reference.model)
            return Cell(None, _published_speed_ratio(row, reference), run)
        computed = _computed(key, row, column)
        if column in MEASURED_COLUMNS and printed is not None:
            return Cell(printed, computed, measured_answer(record, key, row.model or "", column))
        return Cell(printed, computed)

    ours = [row for row in table.rows if row.model]
    rows = [ComparedRow(row.name, [cell(row, column.key) for column in columns]) for row in ours]
    tables = [compared_table("model", columns, rows, _notes(key))]
    if others := [row for row in table.rows if not row.model]:
        header = ["model", *(column.header for column in table.columns)]
        lines = [[row.name, *(row.values.get(column.key, "–") for column in table.columns)] for row in others]
        tables.append(Table(header, lines, "Methods of others, as published"))
    if key == "table2":
        tables.append(equal_budget_table(studies, record))
    if key == "table3":
        tables.append(bottleneck_table(studies))
    return Section(table.title, tuple(tables))


def _computed(table: str, row: PublishedRow, column: str) -> Answer | None:
    """What the network's structure or the row's other values say about a column, None if they say nothing."""
    assert row.model is not None
    printed = row.values.get(column)
    with_norms = table == "table4"
    if column == "parameters":
        return parameters_answer(row.model, printed)
    if column == "power":
        watts = Decimal(row.values["energy"]) * Decimal(row.values["fps"])
        return Answer("derived", f"{rounded(watts, 0)}", float(watts), detail="J/image × FPS")
    if column == TIME_BEHIND_FPS.key:
        return _implied_time(row)
    if printed is None:
        return None
    if column == "flops":
        return flops_answer(row.model, printed, with_norms=with_norms)
    if column == "input":
        return same_text(str(input_side(row.model)), printed)
    if column in ("fps", "efficiency"):
        time = whole_ms(row.values["fps"])
        if time is None:
            return Answer("differs", note="no single whole number of milliseconds gives these FPS")
        ms, _ = time
        if column == "efficiency":
            return efficiency_answer(row, ms, with_norms=with_norms)
        return compared_answer(Decimal(1000) / ms, printed, "derived", detail=f"1000 / {ms} ms")
    return None


def efficiency_answer(row: PublishedRow, ms: int, *, with_norms: bool) -> Answer:
    """FLOPs over whole milliseconds, from the printed FLOPs or the exact ones, whichever gives the printed value.

    Cutting is tried before rounding, the printed FLOPs before the exact ones.
    """
    assert row.model is not None
    printed = row.values["efficiency"]
    from_printed = Decimal(row.values["flops"]) * 1000 / ms
    from_exact = flops_g(row.model, with_norms=with_norms) * 1000 / ms
    candidates = {"the printed FLOPs": from_printed, "the exact FLOPs": from_exact}
    for accepted in (("cut", ""), ("rounded",)):
        for source, value in candidates.items():
            if how_equal(value, printed) not in accepted:
                continue
            answer = compared_answer(value, printed, "derived", detail=f"{source} / {ms} ms")
            if how_equal(from_exact, printed) is None:
                exact = f"{rounded(from_exact, digits(printed) + 1)} with the exact FLOPs"
                answer = replace(answer, detail=f"{answer.detail}; {exact}")
            return answer
    return compared_answer(from_printed, printed, "derived", detail=f"{ms} ms")


def _implied_time(row: PublishedRow) -> Answer | None:
    time = whole_ms(row.values["fps"]) if "fps" in row.values else None
    if time is None:
        return None
    ms, how = time
    return Answer(
        "derived", str(ms), float(ms), detail=f"1000 / {ms} ms, {how or 'cut or rounded'}, is the printed FPS"
    )


def _published_speed_ratio(row: PublishedRow, reference: PublishedRow) -> Answer:
    """The ratio of the printed FPS or of the printed times."""
    if "fps" in row.values:
        ratio = Decimal(row.values["fps"]) / Decimal(reference.values["fps"])
    else:
        ratio = Decimal(reference.values["time"]) / Decimal(row.values["time"])
    return Answer("derived", f"{rounded(ratio, 2)}", float(ratio), detail="of the printed speeds")


def _notes(key: str) -> Sequence[str]:
    """Notes on a whole table."""
    notes = []
    if key == "table4":
        notes.append(
            "FLOPs here are multiply-adds plus one operation per output of a batch norm: only this sum gives all six "
            "printed values"
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
        notes.append("the column box AP75 is headed AP70 in print; the paper prints no parameters")
        notes.append(
            "times measured here are for the number of regions that random weights propose; with trained weights they "
            "would differ"
        )
        notes.append("the paper quotes the rows ResNet-50-GN and ResNet-101-GN from the Group Normalization paper")
    dataset = "voc" if key in ("table2", "table3") else "coco"
    notes.append(f"the configs expect the dataset in {DATA_FOLDERS[dataset]}")
    return notes
