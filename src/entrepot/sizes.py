"""Sizes and ages: read as people type them, shown as people read them.

No I/O; ``now`` comes in as an argument.
"""

from __future__ import annotations

import re

from entrepot.errors import FormatError

_SIZE_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgtp", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}

_HOUR = 3_600
DAY = 24 * _HOUR
_AGE_UNITS = {"s": 1, "min": 60, "h": _HOUR, "d": DAY, "w": 7 * DAY, "mo": 30 * DAY, "y": 365 * DAY}

_NUMBER = re.compile(
    r"\s*(\d{1,20}(?:\.\d{1,20})?|\.\d{1,20})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII
)


def short(text: str) -> str:
    """A text for a message: its beginning when it is long.

    >>> short("9" * 5_000)
    '999999999999999999999999999999999999...'
    """
    return text if len(text) <= 40 else f"{text[:36]}..."


def parse_size(text: str) -> int:
    """Bytes meant by ``20G`` or ``20GB`` (powers of 1000), ``20GiB`` (of 1024) or a plain number.

    Raises:
        FormatError: no number, a negative one or an unknown unit.

    >>> parse_size("1.5 GB"), parse_size("2KiB"), parse_size("512")
    (1500000000, 2048, 512)
    """
    found = _NUMBER.fullmatch(text)
    unit = _SIZE_UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise FormatError(
            f"{short(text)!r} is not a size", text=text, hint="write it like 500MB, 20GB or 20GiB"
        )
    return int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit


def parse_age(text: str) -> float:
    """Seconds meant by ``30s``, ``10min``, ``36h``, ``90d``, ``12w``, ``6mo`` or ``1y``.

    A month has 30 days, a year 365.

    Raises:
        FormatError: no number, or no unit: a bare number would be read as days by some and as
            seconds by others.

    >>> parse_age("12w") == parse_age("84d")
    True
    """
    found = _NUMBER.fullmatch(text)
    unit = _AGE_UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise FormatError(
            f"{short(text)!r} is not an age: it needs a unit, like 90d",
            text=text,
            hint="write it like 36h, 90d, 12w, 6mo or 1y",
        )
    return float(found[1]) * unit


def show_size(size: int) -> str:
    """A size for people, in powers of 1000.

    Gigabytes and more with one decimal, less with two digits at least.

    >>> [show_size(n) for n in (0, 999, 1_900_000, 17_300_000, 6_100_000_000)]
    ['0 B', '999 B', '1.9 MB', '17 MB', '6.1 GB']
    """
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        digits = 1 if unit in ("GB", "TB") or value < 9.95 else 0
        if round(value, digits) < 1000:
            return f"{value:.{digits}f} {unit}"
    return f"{value / 1000:.1f} PB"


def show_count(count: int) -> str:
    """A number with its thousands set apart by spaces.

    >>> show_count(412880)
    '412 880'
    """
    return f"{count:,}".replace(",", " ")


def show_age(seconds: float) -> str:
    """How long ago, in the largest unit that fits: ``today``, ``3 d``, ``6 w``, ``4 mo``, ``2 y``.

    A moment in the future (a clock that jumped) is today.

    >>> [show_age(days * 86_400) for days in (0.5, 3, 13, 44, 130, 800)]
    ['today', '3 d', '13 d', '6 w', '4 mo', '2 y']
    """
    days = int(seconds // DAY)
    if days < 1:
        return "today"
    if days < 14:
        return f"{days} d"
    if days < 60:
        return f"{days // 7} w"
    if days < 730:
        return f"{days // 30} mo"
    return f"{days // 365} y"
