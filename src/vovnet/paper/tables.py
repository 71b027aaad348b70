"""The paper's Tables 2 to 7: each published value next to what was recomputed, derived, measured or not run yet."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from vovnet.paper.answers import Answer, Cell, compared_answer, compared_table, same_text
from vovnet.paper.blood_cells import bottleneck_table, equal_budget_table
from vovnet.paper.gpu_tables import gpu_speed_ratio, gpu_table
from vovnet.paper.measured import MEASURED_COLUMNS, PAPERS_DEVICE, measured_speed_ratio
from vovnet.paper.published import TABLES, PublishedRow
from vovnet.paper.recomputed import build, flops_answer, flops_g, parameters_answer
from vovnet.paper.rounding import digits, how_equal, rounded, whole_ms
from vovnet.paper.sources import DATA_FOLDERS, METRICS, Sources
from vovnet.report.document import Section, Table

# The row that is the reference for the speeds of a table.
REFERENCES = {"table2": "DSOD300, VoVNet-27-slim", "table3": "VoVNet-27-slim", "table4": "VoVNet-39"}


def table_section(key: str, sources: Sources) -> Section:
    """One of Tables 2 to 7."""
    table = TABLES[key]
    headers: dict[str, str] = {}
    for column in table.columns:
        headers[column.key] = column.header
        if column.key == "fps":
            headers["implied_time"] = "implied latency (ms)"
    if "energy" in headers:
        headers["power"] = "implied power (W)"
    if key in REFERENCES:
        headers["speed"] = f"speed relative to {REFERENCES[key]}"
    rows = {row.name: [_cell(key, row, column, sources) for column in headers] for row in table.rows if row.model}
    tables = [compared_table(["model", *headers.values()], rows, _notes(key))]
    if others := [row for row in table.rows if not row.model]:
        lines = [[row.name, *(row.values.get(column.key, "–") for column in table.columns)] for row in others]
        header = ["model", *(column.header for column in table.columns)]
        tables.append(Table(header, lines, "Other methods, as published"))
    if (gpu := sources.gpu(key)) is not None and (on_gpu := gpu_table(key, gpu)) is not None:
        tables.append(on_gpu)
    if key == "table2":
        tables.append(equal_budget_table(sources.studies, sources.record(key)))
    if key == "table3":
        tables.append(bottleneck_table(sources.studies))
    return Section(table.title, tuple(tables))


def _cell(table: str, row: PublishedRow, column: str, sources: Sources) -> Cell:
    printed = row.values.get(column)
    if column in METRICS:
        return Cell(printed, run=sources.accuracy(table, row, column))
    if column == "speed":
        reference = TABLES[table].row(REFERENCES[table])
        run = gpu_speed_ratio(sources.gpu(table), row.model, reference.model)
        run = run or measured_speed_ratio(sources.record(table), table, row.model, reference.model)
        return Cell(None, _published_speed_ratio(row, reference), run)
    computed = _computed(row, column, with_norms=table == "table4")
    if column in MEASURED_COLUMNS and printed is not None:
        return Cell(printed, computed, sources.cost(table, row.model, column))
    return Cell(printed, computed)


def _computed(row: PublishedRow, column: str, *, with_norms: bool) -> Answer | None:
    """What the network's structure or the row's other values say about a column, None if they say nothing."""
    printed = row.values.get(column)
    if column == "parameters":
        return parameters_answer(row.model, printed)
    if column == "power":
        watts = Decimal(row.values["energy"]) * Decimal(row.values["fps"])
        return Answer("derived", f"{rounded(watts, 0)}", float(watts), detail="J/image × FPS")
    ms = whole_ms(row.values["fps"]) if "fps" in row.values else None
    if column == "implied_time":
        if ms is None:
            return None
        how = how_equal(Decimal(1000) / ms, row.values["fps"]) or "truncated or rounded"
        return Answer("derived", str(ms), float(ms), detail=f"1000 / {ms} ms, {how}, is the printed FPS")
    if printed is None:
        return None
    if column == "flops":
        return flops_answer(row.model, printed, with_norms=with_norms)
    if column == "input":
        return same_text(str(build(row.model).preprocessing.image_size[0]), printed)
    if column not in ("fps", "efficiency"):
        return None
    if ms is None:
        return Answer("differs", note="no single whole number of milliseconds gives the printed FPS")
    if column == "efficiency":
        return efficiency_answer(row, ms, with_norms=with_norms)
    return compared_answer(Decimal(1000) / ms, printed, "derived", detail=f"1000 / {ms} ms")


def efficiency_answer(row: PublishedRow, ms: int, *, with_norms: bool) -> Answer:
    """FLOPs over whole milliseconds, from the printed FLOPs or the exact ones, whichever gives the printed value.

    Truncating is tried before rounding, the printed FLOPs before the exact ones.
    """
    printed = row.values["efficiency"]
    from_printed = Decimal(row.values["flops"]) * 1000 / ms
    from_exact = flops_g(row.model, with_norms=with_norms) * 1000 / ms
    for accepted in (("truncated", ""), ("rounded",)):
        for source, value in (("printed", from_printed), ("exact", from_exact)):
            if how_equal(value, printed) not in accepted:
                continue
            answer = compared_answer(value, printed, "derived", detail=f"the {source} FLOPs / {ms} ms")
            if how_equal(from_exact, printed) is None:
                exact = f"{rounded(from_exact, digits(printed) + 1)} with the exact FLOPs"
                answer = replace(answer, detail=f"{answer.detail}; {exact}")
            return answer
    return compared_answer(from_printed, printed, "derived", detail=f"{ms} ms")


def _published_speed_ratio(row: PublishedRow, reference: PublishedRow) -> Answer:
    """The ratio of the printed FPS or of the printed times."""
    if "fps" in row.values:
        ratio = Decimal(row.values["fps"]) / Decimal(reference.values["fps"])
    else:
        ratio = Decimal(reference.values["time"]) / Decimal(row.values["time"])
    return Answer("derived", f"{rounded(ratio, 2)}", float(ratio), detail="of the printed speeds")


def _notes(key: str) -> list[str]:
    """Notes on a whole table."""
    notes = []
    if key == "table4":
        notes.append(
            "FLOPs here are multiply-adds plus one operation per BatchNorm output element; only this definition "
            "reproduces all six printed values"
        )
        notes.append(
            "VoVNet-57: the only published ImageNet weights need another stem (a stride in place of pooling) and "
            "identity connections, so the config trains a network with the same parameters but fewer FLOPs than the "
            "one computed here; the config's header says how to train this one from the same weights. ResNet-50 and "
            "ResNet-101: torchvision's weights have the stride in the 3×3 convolutions, which needs more FLOPs"
        )
    elif key in ("table2", "table3"):
        notes.append("FLOPs are multiply-adds")
    if key in ("table2", "table4"):
        notes.append(
            "printed FPS = 1000 / whole milliseconds, truncated; efficiency = FLOPs / the same milliseconds, "
            f"truncated; implied power = J/image × FPS; the paper's speeds were measured on a {PAPERS_DEVICE}"
        )
    if key in ("table6", "table7"):
        notes.append("printed FPS = 1000 / whole milliseconds; the table shows these as implied latency")
    if key == "table5":
        notes += [
            "the column box AP75 is labelled AP70 in the paper, which gives no parameter counts",
            "measured times are for the number of proposals produced by random weights; trained weights would give "
            "different times",
            "the paper takes the rows ResNet-50-GN and ResNet-101-GN from the Group Normalization paper",
        ]
    dataset = "voc" if key in ("table2", "table3") else "coco"
    return [*notes, f"the configs expect the dataset in `{DATA_FOLDERS[dataset]}`"]
