"""The claims of the paper's text beside what its own tables give, and the values that it prints twice."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from vovnet.paper.measured import Record
from vovnet.paper.published_claims import CLAIMS, PRINTED_TWICE, Claim, PrintedValue
from vovnet.paper.rounding import cut, digits, how_equal, rounded
from vovnet.report.document import Section, Table


def claims_section(record_of: Callable[[str], Record | None]) -> Section:
    """record_of: the measurements of a table, for ratios of speed, energy and efficiency."""
    rows, data = [], []
    for claim in CLAIMS:
        arithmetic, verdict = recompute(claim)
        measured = measured_ratio(claim, record_of)
        rows.append([f"{_sign(claim)}{claim.value} {claim.text}", claim.where, arithmetic, verdict, measured])
        data.append(
            {
                "claim": claim.value,
                "says": claim.text,
                "arithmetic": arithmetic,
                "verdict": verdict,
                "measured": measured,
            }
        )
    header = ["claim", "where", "from the printed tables", "", "measured here"]
    return Section(
        "Claims of the text",
        (
            "Each claim beside what the paper's own tables give. A claim holds if the result, rounded or cut, has the "
            "claimed digits.",
            Table(header, rows, "", (), data),
            Table(["value", "once", "again", ""], _printed_twice(), "Printed twice"),
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


def measured_ratio(claim: Claim, record_of: Callable[[str], Record | None]) -> str:
    """The claim's ratio from a record of both models, "" if there is none."""
    first, second = claim.first, claim.second
    if claim.operation != "/" or first.column not in ("fps", "energy", "efficiency") or first.table != second.table:
        return ""
    record = record_of(first.table)
    models = [first.model, second.model]
    if record is None or not all(model in record.measurements for model in models):
        return ""
    measurements = [record.measurements[model] for model in models if model]
    values = [
        {
            "fps": measurement.images_per_s,
            "energy": measurement.energy_j_per_image,
            "efficiency": measurement.gmultiply_adds_per_s,
        }[first.column]
        for measurement in measurements
    ]
    if values[0] is None or values[1] is None:
        return ""
    return f"{values[0] / values[1]:.2f} on {measurements[0].conditions.device_name} ({record.name})"


def _printed_twice() -> list[list[str]]:
    rows = []
    for what, *values in PRINTED_TWICE:
        first, second = (Decimal(value.text) for value in values)
        verdict = "agrees" if first == second else "differs"
        rows.append([what, *(f"{value.text} in {value.table_number}" for value in values), verdict])
    return rows


def _sign(claim: Claim) -> str:
    return "" if claim.operation == "/" or "lost" in claim.text else "+"
