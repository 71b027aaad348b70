"""The claims of the paper's text, recomputed from its own tables, and what it prints twice."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from vovnet.paper.measured_tables import Record
from vovnet.paper.published import CLAIMS, TABLES, TWICE, Claim, Place
from vovnet.paper.rounding import cut, digits, how_equal, rounded
from vovnet.report.document import Section, Table


def claims(record_of: Callable[[str], Record | None]) -> Section:
    """record_of: the measurements of a table, for the ratios of speed."""
    rows, data = [], []
    for claim in CLAIMS:
        arithmetic, holds = recompute(claim)
        ours = measured_ratio(claim, record_of)
        rows.append([f"{_sign(claim)}{claim.figure} {claim.says}", claim.where, arithmetic, holds, ours])
        said = {"claim": claim.figure, "says": claim.says}
        data.append({**said, "arithmetic": arithmetic, "verdict": holds, "measured": ours})
    header = ["claim", "where", "from the printed tables", "", "measured here"]
    twice = []
    for what, first, second in TWICE:
        one, other = printed(first), printed(second)
        same = "agrees" if Decimal(one) == Decimal(other) else "differs"
        twice.append([what, f"{one} in {_table(first)}", f"{other} in {_table(second)}", same])
    return Section(
        "Claims of the text",
        (
            "Each claim beside what the paper's own tables give. It holds where the result, rounded or cut, has the "
            "claimed digits.",
            Table(header, rows, "", (), data),
            Table(["figure", "once", "again", ""], twice, "Printed twice"),
            "DenseNets that did not fit into memory (§4.4, appendix A) and the study of aggregation (§3) are not "
            "recomputable from tables; of the latter see figure 2 and memory access cost.",
        ),
    )


def printed(place: Place) -> str:
    table, row, column = place
    return TABLES[table].row(row).figures[column]


def recompute(claim: Claim) -> tuple[str, str]:
    """The arithmetic with its result, and "holds" or "differs"."""
    value, text = _arithmetic(claim, claim.first, claim.second)
    if claim.equals is not None:
        wanted = printed(claim.equals)
        shown = cut(value, digits(wanted))
        text += f", cut {shown}; {_table(claim.equals)} prints {wanted}"
        return text, "holds" if shown == Decimal(wanted) else "differs"
    holds = how_equal(value, claim.figure) is not None
    if claim.rather is not None and not holds:
        text += f"; {_arithmetic(claim, claim.rather, claim.second)[1]} is that of {claim.rather[1]}"
    note = f"; {claim.note}" if claim.note else ""
    return text + note, "holds" if holds else "differs"


def _arithmetic(claim: Claim, first: Place, second: Place) -> tuple[Decimal, str]:
    one, other = printed(first), printed(second)
    ratio = claim.how == "ratio"
    value = Decimal(one) / Decimal(other) if ratio else Decimal(one) - Decimal(other)
    # A ratio with a digit more than is claimed, and at least two; a difference has the digits of its terms.
    shown = rounded(value, max(2, digits(claim.figure) + 1)) if ratio else value
    return value, f"{one} {'/' if ratio else '−'} {other} = {shown}"


def measured_ratio(claim: Claim, record_of: Callable[[str], Record | None]) -> str:
    """The same ratio of speeds from a record of both models, "" where there is none."""
    (table, first, column), (other_table, second, _) = claim.first, claim.second
    if claim.how != "ratio" or column not in ("fps", "energy", "efficiency") or table != other_table:
        return ""
    models = TABLES[table].row(first).model, TABLES[table].row(second).model
    record = record_of(table)
    if record is None or not all(model in record.measurements for model in models):
        return ""
    values = []
    for model in models:
        one = record.measurements[model or ""]
        figures = {"fps": one.images_per_s, "energy": one.energy_j_per_image, "efficiency": one.gmultiply_adds_per_s}
        values.append(figures[column])
    if values[0] is None or values[1] is None:
        return ""
    device = record.measurements[models[0] or ""].conditions.device_name
    return f"{values[0] / values[1]:.2f} on {device} ({record.name})"


def _sign(claim: Claim) -> str:
    return "" if claim.how == "ratio" or "lost" in claim.says else "+"


def _table(place: Place) -> str:
    return TABLES[place[0]].title.partition(":")[0]
