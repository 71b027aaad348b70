"""Whether a value has the digits that the paper prints: it rounds in some tables and truncates in others."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal


def digits(printed: str) -> int:
    """The number of digits after the decimal point."""
    return len(printed.partition(".")[2])


def truncated(value: Decimal, after_point: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-after_point), ROUND_DOWN)


def rounded(value: Decimal, after_point: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-after_point), ROUND_HALF_UP)


def how_equal(value: Decimal, printed: str) -> str | None:
    """ "truncated" or "rounded" if only that gives the printed digits, "" if both do, None if neither does."""
    is_truncated, is_rounded = (f(value, digits(printed)) == Decimal(printed) for f in (truncated, rounded))
    if is_truncated:
        return "" if is_rounded else "truncated"
    return "rounded" if is_rounded else None


def whole_ms(fps: str) -> int | None:
    """The whole number of milliseconds that gives the printed frames per second; truncating is tried before rounding.

    None if no whole number, or more than one, gives the printed digits.
    """
    estimate = int(1000 / Decimal(fps))
    nearby = range(max(1, estimate - 3), estimate + 4)
    for accepted in (("truncated", ""), ("rounded",)):
        matches = [ms for ms in nearby if how_equal(Decimal(1000) / ms, fps) in accepted]
        if len(matches) == 1:
            return matches[0]
    return None
