"""Requests and responses as immutable values. No parsing of field values here (``fields.py``), no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


class Headers:
    """Field lines in order, with their spelling; looked up without regard to case.

    >>> h = Headers([("Vary", "Accept"), ("vary", "Accept-Encoding")])
    >>> h.get("VARY")
    'Accept, Accept-Encoding'

    Source: RFC 9110 §5.3 (lines of one name are one list, joined by a comma).
    """

    __slots__ = ("_index", "_lines")

    def __init__(self, lines: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> None:
        items = lines.items() if isinstance(lines, Mapping) else lines
        self._lines: tuple[tuple[str, str], ...] = tuple(items)
        index: dict[str, list[str]] = {}
        for name, value in self._lines:
            index.setdefault(name.lower(), []).append(value)
        self._index = index

    def get(self, name: str) -> str | None:
        """All values of one name joined by ``", "``; ``None`` when the field is absent."""
        values = self._index.get(name.lower())
        return None if values is None else ", ".join(values)

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

    def names(self) -> frozenset[str]:
        """Every name present, in lower case."""
        return frozenset(self._index)

    def without(self, *names: str) -> Headers:
        """A copy less all lines of these names."""
        gone = {n.lower() for n in names}
        return Headers(line for line in self._lines if line[0].lower() not in gone)

    def replaced(self, name: str, value: str) -> Headers:
        """A copy in which ``name`` has exactly this one value, at the end."""
        return Headers([*self.without(name), (name, value)])

    def added(self, name: str, value: str) -> Headers:
        """A copy with one more line."""
        return Headers([*self._lines, (name, value)])


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body. ``url`` is absolute and without a fragment: the target URI (RFC 9110 §7.1)."""

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
    """Lower-case names that ``Vary`` nominates with the request's values at storing time (``None``: absent).
    Values of credential fields are digests of the value, never the value: see ``selecting_values``."""
    request_time: float
    """Seconds since the epoch when the request that brought it (or last validated it) was sent."""
    response_time: float
    """Seconds since the epoch when its head arrived."""
    size: int | None = None
    """Bytes of the stored body as transferred (content codings kept); ``None``: no body is stored."""
    invalidated: bool = False
    """Marked by an unsafe request (RFC 9111 §4.4): must be validated before use."""
    key: str = ""
    """The variant's name, opaque to the core; carried so that a decision tells which entry it means."""
