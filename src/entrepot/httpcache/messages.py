"""Requests and responses as immutable values.

No parsing of field values here (``fields.py``), no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import compress


class Headers:
    """Field lines in order, with their spelling; looked up without regard to case.

    >>> h = Headers([("Vary", "Accept"), ("vary", "Accept-Encoding")])
    >>> h.get("VARY")
    'Accept, Accept-Encoding'

    Source: RFC 9110 §5.3 (lines of one name are one list, joined by a comma).
    """

    __slots__ = ("_index", "_lines", "_lower")

    def __init__(self, lines: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> None:
        items = lines.items() if isinstance(lines, Mapping) else lines
        self._lines: tuple[tuple[str, str], ...] = tuple(items)
        self._lower: tuple[str, ...] = tuple([name.lower() for name, _ in self._lines])
        """The names of the lines in lower case."""
        index: dict[str, list[str]] = {}
        for lower, (_, value) in zip(self._lower, self._lines, strict=True):
            if lower in index:
                index[lower].append(value)
            else:
                index[lower] = [value]
        self._index = index

    def get(self, name: str) -> str | None:
        """All values of one name joined by ``", "``; ``None`` when the field is absent."""
        values = self._index.get(name.lower())
        if values is None:
            return None
        return values[0] if len(values) == 1 else ", ".join(values)

    def all(self, name: str) -> tuple[str, ...]:
        """The values of one name, a line each."""
        return tuple(self._index.get(name.lower(), ()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)

    def __repr__(self) -> str:
        return f"Headers({list(self._lines)!r})"

    def less(self, gone: frozenset[str]) -> Headers:
        """Less all lines of these lower-case names; itself when it has none of them."""
        present = gone.intersection(self._index)
        if not present:
            return self
        lines, lower = self._lines, self._lower
        if (
            len(present) == 1 and len(self._index[one := next(iter(present))]) == 1
        ):  # Connection alone, as a rule
            at = lower.index(one)
            lines, lower = lines[:at] + lines[at + 1 :], lower[:at] + lower[at + 1 :]
        else:
            kept = [name not in gone for name in lower]
            lines, lower = tuple(compress(lines, kept)), tuple(compress(lower, kept))
        made = Headers.__new__(Headers)
        # its own kind: what is known is not made again
        made._lines, made._lower = lines, lower  # noqa: SLF001
        made._index = index = self._index.copy()  # noqa: SLF001
        for name in present:
            del index[name]
        return made

    def names(self) -> frozenset[str]:
        """Every name present, in lower case."""
        return frozenset(self._index)

    def without(self, *names: str) -> Headers:
        """A copy less all lines of these names."""
        return self.less(frozenset(n.lower() for n in names))

    def replaced(self, name: str, value: str) -> Headers:
        """A copy in which ``name`` has exactly this one value, at the end."""
        return Headers([*self.without(name), (name, value)])

    def added(self, name: str, value: str) -> Headers:
        """A copy with one more line."""
        return Headers([*self._lines, (name, value)])


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body.

    ``url`` is absolute and without a fragment: the target URI (RFC 9110 §7.1).
    """

    method: str
    url: str
    headers: Headers = field(default_factory=Headers)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response without its body. ``reason`` is informational only (RFC 9112 §4)."""

    status: int
    headers: Headers = field(default_factory=Headers)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What the core knows of a stored response; the body itself lies elsewhere.

    One of several *variants* of a cache key when its response has ``Vary``.
    """

    head: ResponseHead
    vary: tuple[tuple[str, str | None], ...]
    """Lower-case names that ``Vary`` nominates with the request's values at storing time (``None``:
    absent). Values of credential fields are digests of the value, never the value: see
    ``selecting_values``."""
    request_time: float
    """Seconds since the epoch when the request that brought it (or last validated it) was sent."""
    response_time: float
    """Seconds since the epoch when its head arrived."""
    size: int | None = None
    """Bytes of the stored body as transferred (content codings kept); ``None``: no body is stored.
    """
    invalidated: bool = False
    """Marked by an unsafe request (RFC 9111 §4.4): must be validated before use."""
    key: str = ""
    """The variant's name, opaque to the core; carried so that a decision tells which entry it
    means."""
