"""The claims of the paper's text beside what its own tables give, and the values that it prints twice."""

from __future__ import annotations

from decimal import Decimal

from vovnet.paper.measured import measured_answer
from vovnet.paper.published import TABLES
from vovnet.paper.published_claims import CLAIMS, PRINTED_TWICE, Claim, PrintedValue
from vovnet.paper.rounding import cut, digits, how_equal, rounded
from vovnet.paper.sources import Sources
from vovnet.report.document import Section, Table


def claims_section(sources: Sources) -> Section:
    rows, data = [], []
    for claim in CLAIMS:
        arithmetic, verdict = recompute(claim)
        measured = measured_ratio(claim, sources)
        sign = "" if claim.operation == "/" or "lost" in claim.text else "+"
        rows.append([f"{sign}{claim.value} {claim.text}", claim.where, arithmetic, verdict, measured])
        entry = {"claim": claim.value, "says": claim.text, "arithmetic": arithmetic, "verdict": verdict}
        data.append({**entry, "measured": measured})
    repeated = []
    for what, *values in PRINTED_TWICE:
        first, second = (Decimal(value.text) for value in values)
        verdict = "agrees" if first == second else "differs"
        repeated.append([what, *(f"{value.text} in {value.table_number}" for value in values), verdict])
    return Section(
        "Claims of the text",
        (
            "Each claim beside what the paper's own tables give. A claim holds if the result, rounded or cut, has the "
            "claimed digits.",
            Table(["claim", "where", "from the printed tables", "", "measured here"], rows, data=data),
            Table(["value", "once", "again", ""], repeated, "Printed twice"),
            "Not recomputable from tables: the DenseNets that did not fit into memory (§4.4, appendix A), and the "
            "aggregation study (§3), for which see Figure 2 and Memory access cost.",
        ),
    )


def recompute(claim: Claim) -> tuple[str, str]:
    """The arithmetic with its result, and "holds" or "differs"."""
    value, text = _arithmetic(claim, claim.first)
    if claim.equals is not None:
        expected = claim.equals.text
        result = cut(value, digits(expected))
        text += f", cut {result}; {claim.equals.table_number} prints {expected}"
        return text, "holds" if result == Decimal(expected) else "differs"
    holds = how_equal(value, claim.value) is not None
    if claim.rather is not None and not holds:
        text += f"; {_arithmetic(claim, claim.rather)[1]} is that of {claim.rather.row}"
    if claim.note:
        text += f"; {claim.note}"
    return text, "holds" if holds else "differs"


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
    if claim.operation != "/" or record is None:
        return ""
    models = [TABLES[table].row(value.row).model for value in (claim.first, claim.second)]
    first, second = (measured_answer(record, table, model, claim.first.column).value for model in models)
    if first is None or second is None:
        return ""
    return f"{first / second:.2f} on {record.measurements[models[0]].conditions.device_name} ({record.name})"
