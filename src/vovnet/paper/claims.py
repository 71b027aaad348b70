"""The claims in the paper's text against its own tables, and the values that it prints in two tables."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from vovnet.paper.gpu_tables import FILE, ratio_text, way_text
from vovnet.paper.measured import is_lower_bound, measured_answer
from vovnet.paper.published import TABLES
from vovnet.paper.published_claims import CLAIMS, PRINTED_TWICE, Claim, PrintedValue
from vovnet.paper.rounding import digits, how_equal, rounded, truncated
from vovnet.paper.sources import Sources
from vovnet.paper.wording import foreign
from vovnet.report.document import Section, Table


def claims_section(sources: Sources) -> Section:
    rows, data = [], []
    for claim in CLAIMS:
        arithmetic, verdict = recompute(claim)
        measured = measured_ratio(claim, sources)
        sign = "" if claim.operation == "/" or "lost" in claim.text else "+"
        space = "" if claim.text.startswith("×") else " "
        rows.append([f"{sign}{claim.value}{space}{claim.text}", claim.where, arithmetic, verdict, measured])
        entry = {"claim": claim.value, "says": claim.text, "arithmetic": arithmetic, "verdict": verdict}
        data.append({**entry, "measured": measured})
    repeated = []
    for what, *values in PRINTED_TWICE:
        first, second = (Decimal(value.text) for value in values)
        verdict = "agrees" if first == second else "differs"
        repeated.append([what, *(f"{value.text} in {value.table_number}" for value in values), verdict])
    return Section(
        "Claims in the text",
        (
            "Each claim is compared with the paper's own tables. It holds if the result matches the claim when rounded "
            "or truncated.",
            Table(["claim", "where", "from the printed tables", "verdict", "measured here"], rows, data=data),
            Table(["value", "first", "second", "verdict"], repeated, "Values printed in two tables"),
            "These cannot be recomputed from the tables: the DenseNets that did not fit into memory (§4.4, appendix A) "
            "and the aggregation study (§3; see Figure 2 and Memory access cost).",
        ),
    )


def recompute(claim: Claim) -> tuple[str, str]:
    """The arithmetic with its result, and "holds" or "does not hold"."""
    value, text = _arithmetic(claim, claim.first)
    if claim.equals is not None:
        expected = claim.equals.text
        result = truncated(value, digits(expected))
        text += f", truncated to {result}; {claim.equals.table_number} prints {expected}"
        return text, "holds" if result == Decimal(expected) else "does not hold"
    holds = how_equal(value, claim.value) is not None
    if claim.rather is not None and not holds:
        text += f"; {_arithmetic(claim, claim.rather)[1]} for {claim.rather.row}"
    if claim.note:
        text += f"; {claim.note}"
    return text, "holds" if holds else "does not hold"


def _arithmetic(claim: Claim, first: PrintedValue) -> tuple[Decimal, str]:
    """The claim's operation on `first` and its second value: the result, and the calculation as text."""
    left, right = first.text, claim.second.text
    if claim.operation == "/":
        value = Decimal(left) / Decimal(right)
        # With one digit more than claimed, and at least two.
        return value, f"{left} / {right} = {rounded(value, max(2, digits(claim.value) + 1))}"
    value = Decimal(left) - Decimal(right)
    return value, f"{left} − {right} = {value}"


def measured_ratio(claim: Claim, sources: Sources) -> str:
    """The claim's ratio of speed, energy or efficiency from a record of both models, "" if there is none."""
    table = claim.first.table
    record = sources.record(table)
    if claim.operation != "/":
        return ""
    models = [TABLES[table].row(value.row).model for value in (claim.first, claim.second)]
    if (on_gpu := _ratio_on_gpu(claim, models, sources)) or record is None:
        return on_gpu
    first, second = (measured_answer(record, table, model, claim.first.column).value for model in models)
    if first is None or second is None:
        return ""
    above, below = (is_lower_bound(record, model, claim.first.column) for model in models)
    if above and below:
        return ""  # the ratio of two lower bounds says nothing
    limit = "≥ " if above else "≤ " if below else ""
    device = foreign(record.measurements[models[0]].conditions.device_name)
    return f"{limit}{first / second:.2f} on {device} ({record.name})"


def _ratio_on_gpu(claim: Claim, models: Sequence[str], sources: Sources) -> str:
    """The claim's ratio on a GPU, at batch 1 eager and as a graph, and at larger batches; "" if it was not measured."""
    gpu = sources.gpu(claim.first.table)
    if gpu is None:
        return ""
    texts, cards = list[str](), list[str]()
    for way in gpu.ways(models[0]):
        # How many times as fast is how many times as long the other takes.
        ratio = gpu.time_ratio(models[1], models[0], way)
        text = None if ratio is None else ratio_text(ratio.median, ratio.interval)
        if claim.first.column == "energy":
            joules = gpu.joule_ratio(models[0], models[1], way)
            text = None if joules is None else ratio_text(*joules)
        elif claim.first.column == "efficiency" and ratio is not None:
            counts = [gpu.multiply_adds.get(model) for model in models]
            share = counts[0] / counts[1] if counts[0] and counts[1] else None
            low, high = ratio.interval
            text = None if share is None else ratio_text(share * ratio.median, (share * low, share * high))
        elif claim.first.column != "fps":
            text = None
        if text is not None:
            texts.append(f"{text} {way_text(way)}")
            cards.append(foreign(gpu.card(models[0], way)))
    return f"{'; '.join(texts)}, on {' / '.join(dict.fromkeys(cards))} ({FILE})" if texts else ""
