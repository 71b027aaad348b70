"""Whether a value is what was printed, given that the paper rounds in some tables and cuts figures off in others."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from vovnet.paper.cells import Answer, Kind

Number = Decimal | int


def digits(printed: str) -> int:
    """Digits after the point."""
    return len(printed.partition(".")[2])


def cut(value: Number, after_point: int) -> Decimal:
    return Decimal(value).quantize(Decimal(1).scaleb(-after_point), ROUND_DOWN)


def rounded(value: Number, after_point: int) -> Decimal:
    return Decimal(value).quantize(Decimal(1).scaleb(-after_point), ROUND_HALF_UP)


def how_equal(value: Number, printed: str) -> str | None:
    """ "cut" or "rounded" where one of these gives the printed digits, "" where both do, None where neither does."""
    changes = {"cut": cut, "rounded": rounded}
    ways = [way for way, change in changes.items() if change(value, digits(printed)) == Decimal(printed)]
    return None if not ways else "" if len(ways) == 2 else ways[0]


def check(value: Decimal, printed: str | None, kind: Kind, *, note: str = "", detail: str = "") -> Answer:
    """`kind` if the value is what was printed or if nothing was, else "differs"; shown with two digits more."""
    text = f"{rounded(value, 3 if printed is None else digits(printed) + 2):,}"
    if printed is None:
        return Answer(kind, text, float(value), note, detail=detail)
    way = how_equal(value, printed)
    return Answer("differs" if way is None else kind, text, float(value), note, way or "", detail)


def whole_ms(fps: str) -> tuple[int, str] | None:
    """The whole milliseconds behind printed frames per second, and "cut" or "rounded", as in `how_equal`.

    None where no whole number, or more than one, gives the printed digits; cutting is tried first.
    """
    rate = 1000 / Decimal(fps)
    near: Sequence[int] = range(max(1, int(rate) - 3), int(rate) + 4)
    ways = {ms: how_equal(Decimal(1000) / ms, fps) for ms in near}
    for accepted in (("cut", ""), ("rounded",)):
        found = [(ms, way) for ms, way in ways.items() if way is not None and way in accepted]
        if len(found) == 1:
            return found[0][0], found[0][1] or ""
    return None
