"""Lists of numbers as a user types them: sparsities and rates."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from gnncompress.errors import UsageError

# The paper's 19 rates, table 17.
PAPER_RATES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1e2, 1e3, 1e6)


def parse_levels(text: str, option: str = "--sparsity") -> list[float]:
    """Read sparsities: ``0.5``, ``0.1,0.5,0.9`` or ``0:0.9:0.1`` (first, last and step, both ends included).

    Raises:
        UsageError: if a part is no number, a range is not first:last:step, or a level is outside [0, 1).
    """
    levels = _numbers(option, text, "level", "0.5, 0.1,0.5,0.9 or 0:0.9:0.1 (first:last:step)")
    outside = [level for level in levels if not 0 <= level < 1]
    if outside:
        hint = f"; did you mean {outside[0] / 100}?" if 1 < outside[0] < 100 else ""
        raise UsageError(f"{option} {text}: {outside[0]} must be at least 0 and below 1{hint}")
    return list(dict.fromkeys(abs(float(level)) for level in levels))


def parse_rates(text: str) -> list[float]:
    """Read L2 rates: ``1e-3``, ``0,1e-4,0.1``, ``0.1:0.9:0.1``, or ``paper`` for the paper's 19.

    Raises:
        UsageError: if a part is no number, a range is not first:last:step, or a rate is negative.
    """
    if text == "paper":
        return list(PAPER_RATES)
    rates = _numbers("--rate", text, "rate", "1e-3, 0,1e-4,0.1, 0.1:0.9:0.1 (first:last:step), or paper")
    negative = [rate for rate in rates if rate < 0]
    if negative:
        raise UsageError(f"--rate {text}: {negative[0]} is negative; a rate is at least 0")
    return list(dict.fromkeys(abs(float(rate)) for rate in rates))


def _numbers(option: str, text: str, noun: str, forms: str) -> list[Decimal]:
    """Read numbers and ranges. Steps are decimal, so 0:0.9:0.1 holds 0.3 and not 0.30000000000000004."""
    found: list[Decimal] = []
    for part in text.split(","):
        try:
            numbers = [Decimal(number.strip()) for number in part.split(":")]
        except InvalidOperation:
            numbers = []
        if not all(number.is_finite() for number in numbers):
            numbers = []
        if len(numbers) == 1:
            found.append(numbers[0])
        elif len(numbers) == 3 and numbers[2] > 0 and numbers[0] > numbers[1]:
            raise UsageError(f"{option} {text}: the first of {part!r} is above its last; write first:last:step")
        elif len(numbers) == 3 and numbers[2] > 0:
            first, last, step = numbers
            found += [first + step * index for index in range(int((last - first) / step) + 1)]
        else:
            raise UsageError(f"{option} {text}: {part!r} is not a {noun}; use {forms}")
    return found
