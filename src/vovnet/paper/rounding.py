"""Whether a value has the digits that the paper prints: it rounds in some tables and cuts digits off in others."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal


def digits(printed: str) -> int:
    """The number of digits after the decimal point."""
    return len(printed.partition(".")[2])


def cut(value: Decimal, after_point: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-after_point), ROUND_DOWN)


def rounded(value: Decimal, after_point: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-after_point), ROUND_HALF_UP)


def how_equal(value: Decimal, printed: str) -> str | None:
    """ "cut" or "rounded" if only that gives the printed digits, "" if both do, None if neither does."""
    equal = {how: f(value, digits(printed)) == Decimal(printed) for how, f in (("cut", cut), ("rounded", rounded))}
    if all(equal.values()):
        return ""
    return next((how for how, same in equal.items() if same), None)


def whole_ms(fps: str) -> tuple[int, str] | None:
    """The whole number of milliseconds that gives the printed frames per second, and how (see `how_equal`).

    Cutting is tried before rounding. None if no whole number, or more than one, gives the printed digits.
    """
    estimate = int(1000 / Decimal(fps))
    nearby = range(max(1, estimate - 3), estimate + 4)
    how = {ms: how_equal(Decimal(1000) / ms, fps) for ms in nearby}
    for accepted in (("cut", ""), ("rounded",)):
        matches = [(ms, way) for ms, way in how.items() if way is not None and way in accepted]
        if len(matches) == 1:
            return matches[0]
    return None
