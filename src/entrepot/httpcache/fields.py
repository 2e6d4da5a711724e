"""Field-value parsers: dates, delta-seconds, lists, entity tags; and which fields end at a hop.

Two rules: nothing here raises on what a remote side can send, and nothing here knows what a value
is *for*. A value that does not follow its grammar is ``None``; the caller decides what that means
for it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

from entrepot.httpcache.messages import Headers

MAX_DELTA = 2**31
"""Seconds. What any larger delta-seconds value counts as (RFC 9111 §1.2.2)."""

HOP_BY_HOP = frozenset(
    (
        "connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection te trailer "
        "transfer-encoding upgrade"
    ).split()
)
"""Lower-case names that are consumed by the next hop and never forwarded or stored (RFC 9110
§7.6.1, RFC 9111 §3.1)."""

_DAYS = tuple("mon tue wed thu fri sat sun".split())
_LONG_DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
_MONTHS = {
    name: number
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_EPOCH = date(1970, 1, 1).toordinal()
_LONGEST_DATE = 40
_LONGEST_CONNECTION = 100
"""Characters of a ``Connection`` value whose meaning is kept; hostile ones shall not fill the
memory."""
_MOST_DIGITS = 18
_LARGEST = 1_000_000_000_000_000_000


def number(text: str) -> int | None:
    """The value of one or more ASCII digits.

    ``None`` for anything else, signs, spaces and fractions included.

    Values of more than 18 digits are cut to ``10**18``: enough for any size, and no text can make
    ``int`` expensive.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > _MOST_DIGITS:
        text = text.lstrip("0") or "0"
        if len(text) > _MOST_DIGITS:
            return _LARGEST
    return int(text)


def delta_seconds(text: str) -> int | None:
    """Whole seconds, at most :data:`MAX_DELTA`; ``None`` when it is not a delta-seconds value.

    Source: RFC 9111 §1.2.2.

    >>> delta_seconds("003600"), delta_seconds("99999999999") == MAX_DELTA, delta_seconds("1.0"), delta_seconds("-1")
    (3600, True, None, None)
    """
    value = number(text)
    return None if value is None else min(value, MAX_DELTA)


def age_value(value: str | None) -> int:
    """Seconds that an ``Age`` field says; 0 when it is absent or invalid.

    Of a list the first member counts, the others are ignored (RFC 9111 §5.1).
    """
    if value is None:
        return 0
    return delta_seconds(value.partition(",")[0].strip(" \t")) or 0


def http_date(value: str | None, near: float) -> int | None:
    """Seconds since the epoch of a date in one of the three forms of RFC 9110 §5.6.7.

    ``None`` for anything else.

    Names and ``GMT`` are matched without regard to case (RFC 9111 §4.2); any other zone, spacing or
    digit count is invalid.

    Args:
        value: the field's value; a joined list of two dates is invalid.
        near: seconds since the epoch; the two-digit year of the obsolete RFC 850 form is the one
            within 50 years of it.
    """
    if value is None or len(value) > _LONGEST_DATE:
        return None
    parsed = _parsed_date(value)
    if parsed is None:
        return None
    seconds, parts = parsed
    if parts is None:
        return seconds
    # "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year, MUST
    # interpret a timestamp that appears to be more than 50 years in the future as representing the
    # most recent year in the past that had the same last two digits."
    this_year = 1970 + int(near // 31_556_952)
    return _epoch(this_year + 50 - (this_year + 50 - parts[0]) % 100, *parts[1:])


def format_date(seconds: float) -> str:
    """The IMF-fixdate of a time, fractions cut: ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    when = datetime.fromtimestamp(int(seconds), UTC)
    return f"{_DAYS[when.weekday()].title()}, {when:%d} {_month_name(when.month)} {when.year:04} {when:%H:%M:%S} GMT"


def _month_name(month: int) -> str:
    return next(
        name for name, value in _MONTHS.items() if value == month
    ).title()  # strftime's %b follows the locale


_Clock = tuple[int, int, int, int]
"""Year, month, day, second of the day."""


@lru_cache(maxsize=2048)
def _parsed_date(value: str) -> tuple[int | None, _Clock | None] | None:
    """``(seconds, None)``, or ``(None, parts)`` when the year has two digits.

    ``None`` when invalid.
    """
    if not value.isascii():
        return None
    text = value.strip(" \t").lower()
    if len(text) == 29 and text[3:5] == ", " and text[25:] == " gmt" and text[:3] in _DAYS:
        return _four_digit(text[12:16], text[8:11], text[5:7], text[16:25], f"{text[7]}{text[11]}")
    if len(text) == 24 and text[:3] in _DAYS and text[3] == text[7] == text[19] == " ":
        day = "0" + text[9] if text[8] == " " else text[8:10]
        return _four_digit(text[20:], text[4:7], day, text[10:19], "  ")
    weekday, _, rest = text.partition(", ")
    if (
        weekday in _LONG_DAYS
        and len(rest) == 22
        and rest[2] == rest[6] == "-"
        and rest[18:] == " gmt"
    ):
        parts = _parts("00" + rest[7:9], rest[3:6], rest[:2], rest[9:18])
        return parts and (None, parts)
    return None


def _four_digit(year: str, month: str, day: str, clock: str, gaps: str) -> tuple[int, None] | None:
    parts = _parts(year, month, day, clock) if gaps == "  " else None
    seconds = None if parts is None else _epoch(*parts)
    return None if seconds is None else (seconds, None)


def _parts(year: str, month: str, day: str, clock: str) -> _Clock | None:
    """The numbers of a date whose pieces were cut out by position; ``clock`` is `` hh:mm:ss``."""
    if clock[0] != " " or clock[3] != ":" or clock[6] != ":" or month not in _MONTHS:
        return None
    digits = (year, day, clock[1:3], clock[4:6], clock[7:9])
    if not all(piece.isdigit() for piece in digits):
        return None
    y, d, hour, minute, second = map(int, digits)
    if hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    return y, _MONTHS[month], d, hour * 3600 + minute * 60 + second


def _epoch(year: int, month: int, day: int, second: int) -> int | None:
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:  # 30 February, year 0
        return None
    return days * 86_400 + second


def list_members(value: str) -> list[str]:
    """The members of a comma-separated list, spaces around them cut, empty ones left out (RFC 9110 §5.6.1).

    Commas within quoted strings do not separate. A quoted string that never ends is no quoted
    string: what follows is split at every comma, so that a stray quote cannot hide a ``no-store``.

    >>> list_members('a="x, y", b,, c')
    ['a="x, y"', 'b', 'c']
    """
    if '"' not in value:
        return [member for piece in value.split(",") if (member := piece.strip(" \t"))]
    pieces, start, i = [], 0, 0
    while i < len(value):
        if value[i] == '"':
            closing = _closing_quote(value, i)
            if closing is None:
                break
            i = closing
        elif value[i] == ",":
            pieces.append(value[start:i])
            start = i + 1
        i += 1
    pieces += value[start:].split(",") if i < len(value) else [value[start:]]
    return [member for piece in pieces if (member := piece.strip(" \t"))]


def _closing_quote(value: str, opening: int) -> int | None:
    i = opening + 1
    while i < len(value):
        if value[i] == "\\":
            i += 1
        elif value[i] == '"':
            return i
        i += 1
    return None


def unquoted(text: str) -> str:
    r"""A quoted string's content, its ``\`` pairs resolved.

    Other text as it is (RFC 9110 §5.6.4).
    """
    if len(text) < 2 or text[0] != '"' or _closing_quote(text, 0) != len(text) - 1:
        return text
    content = text[1:-1]
    if "\\" not in content:
        return content
    out, escaped = [], False
    for char in content:
        escaped = char == "\\" and not escaped
        if not escaped:
            out.append(char)
    return "".join(out)


class EntityTag(NamedTuple):
    """An entity tag. ``opaque`` keeps its quotes.

    A value that follows no grammar is kept whole and counts as weak.
    """

    weak: bool
    opaque: str

    def matches(self, other: EntityTag) -> bool:
        """Weak comparison: the opaque parts are the same (RFC 9110 §8.8.3.2)."""
        return self.opaque == other.opaque

    def matches_strongly(self, other: EntityTag) -> bool:
        """Strong comparison: the same, and neither is weak (RFC 9110 §8.8.3.2)."""
        return not self.weak and not other.weak and self.opaque == other.opaque


def entity_tag(value: str | None) -> EntityTag | None:
    """The entity tag of an ``ETag`` or ``If-Range`` value; ``None`` when absent or empty."""
    text = (value or "").strip(" \t")
    if not text:
        return None
    opaque = text.removeprefix("W/")
    if len(opaque) < 2 or opaque[0] != '"' or opaque.find('"', 1) != len(opaque) - 1:
        return EntityTag(
            weak=True, opaque=text
        )  # unquoted, w/"x" and the like: still comparable with itself
    return EntityTag(weak=text.startswith("W/"), opaque=opaque)


def entity_tags(value: str) -> tuple[EntityTag, ...] | None:
    """The members of ``If-Match`` or ``If-None-Match``; ``None`` for ``*``.

    A backslash is an ordinary character of an entity tag, not an escape, so these lists are not
    split like others.
    """
    if value.strip(" \t") == "*":
        return None
    tags, start = [], 0
    while start < len(value):
        if value[start] in " \t,":
            start += 1
            continue
        opening = start + 2 * value.startswith("W/", start)
        closing = value.find('"', opening + 1) if value.startswith('"', opening) else start
        comma = value.find(",", closing) if closing >= 0 else -1
        end = len(value) if comma < 0 else comma
        tag = entity_tag(value[start:end])
        assert tag is not None
        tags.append(tag)
        start = end
    return tuple(tags)


def forwardable(headers: Headers) -> Headers:
    """The fields of a request or response that go on to the next hop, and that may be stored.

    Left out are :data:`HOP_BY_HOP` and every field that ``Connection`` names.

    Source: RFC 9110 §7.6.1; RFC 9111 §3.1.
    """
    return headers.less(hop_by_hop(headers))


def hop_by_hop(headers: Headers) -> frozenset[str]:
    """Lower-case names of the fields of this message that end at this hop."""
    connection = headers.get("connection")
    if connection is None:
        return HOP_BY_HOP
    if len(connection) <= _LONGEST_CONNECTION:
        return _ending_here(connection)
    return _ending_here.__wrapped__(connection)


@lru_cache(maxsize=256)
def _ending_here(connection: str) -> frozenset[str]:
    return HOP_BY_HOP.union(name.lower() for name in list_members(connection))
